package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"flag"
	"io"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/boxo/path"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// record signs an IPNS record for a value under a new key, as
// `ipfs name publish` does, and prints it.
func record(args []string) error {
	flags := flag.NewFlagSet("record", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	v1 := flags.Bool("v1compat", true, "")
	rest, err := parse(flags, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return errors.New(usage)
	}
	value, err := path.NewPath(rest[0])
	if err != nil {
		return err
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return err
	}
	signed, err := ipns.NewRecord(key, value, 1, time.Now().Add(time.Hour), time.Minute, ipns.WithV1Compatibility(*v1))
	if err != nil {
		return err
	}
	bytes, err := ipns.MarshalRecord(signed)
	if err != nil {
		return err
	}
	say("record", fields{"name": ipns.NameFromPeer(id).String(), "record": base64.StdEncoding.EncodeToString(bytes)})
	return nil
}
