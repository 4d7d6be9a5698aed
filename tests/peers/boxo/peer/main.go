// Command peer is a boxo peer on loopback that serves or fetches UnixFS files
// over Bitswap, set up as Kubo sets boxo up. Every line of stdout is one JSON
// event.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: peer serve [NODE] [--profile unixfs-v1-2025|legacy|kubo-v1] [--wrap] [--shard] [--inline BYTES] [--chunk BYTES] PATH...
       peer fetch [NODE] [--how read|graph] [--timeout SECONDS] CID[/PATH] MULTIADDR OUT
       peer record [--v1compat=true|false] VALUE
NODE:  [--store DIR|memory] [--sync=true|false] [--listen MULTIADDR] [--announce MULTIADDR] [--swarm-key FILE]`

func main() {
	if err := run(os.Args[1:]); err != nil {
		say("error", fields{"message": err.Error()})
		os.Exit(1)
	}
}

func run(args []string) error {
	// A parent that dies closes our stdin, so no peer outlives its test.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if len(args) > 0 && args[0] == "serve" {
		return serve(ctx, args[1:])
	}
	if len(args) > 0 && args[0] == "fetch" {
		return fetch(ctx, args[1:])
	}
	if len(args) > 0 && args[0] == "record" {
		return record(args[1:])
	}
	return errors.New(usage)
}

// nodeFlags makes a set with the flags that both commands have.
func nodeFlags(command string) (*flag.FlagSet, *config) {
	flags, c := flag.NewFlagSet(command, flag.ContinueOnError), new(config)
	flags.SetOutput(io.Discard)
	flags.StringVar(&c.store, "store", "", "")
	flags.BoolVar(&c.sync, "sync", true, "")
	flags.StringVar(&c.listen, "listen", "/ip4/127.0.0.1/tcp/0", "")
	flags.StringVar(&c.announce, "announce", "", "")
	flags.StringVar(&c.swarmKey, "swarm-key", "", "")
	return flags, c
}

func parse(flags *flag.FlagSet, args []string) ([]string, error) {
	if err := flags.Parse(args); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, usage)
	}
	return flags.Args(), nil
}

type fields map[string]any

func say(event string, fields fields) {
	fields["event"] = event
	json.NewEncoder(os.Stdout).Encode(fields)
}
