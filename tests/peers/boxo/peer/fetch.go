package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/ipfs/boxo/ipld/merkledag"
	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/libp2p/go-libp2p/core/peer"
)

// nowhere is the OUT of bytes that nobody wants to see.
const nowhere = "-"

// A wish is what to fetch, from whom and how.
type wish struct {
	root cid.Cid
	path string
	from peer.AddrInfo
	how  string
	out  string
}

func fetch(ctx context.Context, args []string) error {
	flags, c := nodeFlags("fetch")
	how := flags.String("how", "read", "")
	seconds := flags.Uint("timeout", 60, "")
	rest, err := parse(flags, args)
	if err != nil {
		return err
	}
	w, err := newWish(*how, rest)
	if err != nil {
		return err
	}
	n, err := start(ctx, *c)
	if err != nil {
		return err
	}
	defer n.close()
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(*seconds)*time.Second,
		fmt.Errorf("not done after %d s", *seconds))
	defer cancel()
	got, err := n.fetch(ctx, w)
	if err != nil {
		// The error itself says only that a context ended.
		return errors.Join(context.Cause(ctx), err)
	}
	say("fetched", got)
	return nil
}

func newWish(how string, args []string) (w wish, err error) {
	if len(args) != 3 || how != "read" && how != "graph" {
		return w, errors.New(usage)
	}
	source, path, _ := strings.Cut(args[0], "/")
	root, err := cid.Decode(source)
	if err != nil {
		return w, fmt.Errorf("%s: %w", source, err)
	}
	from, err := peer.AddrInfoFromString(args[1])
	if err != nil {
		return w, fmt.Errorf("%s: %w", args[1], err)
	}
	return wish{root, path, *from, how, args[2]}, nil
}

// fetch takes the time from after the dial until the last block is stored.
func (n *node) fetch(ctx context.Context, w wish) (got fields, err error) {
	if err := n.host.Connect(ctx, w.from); err != nil {
		return nil, err
	}
	began := time.Now()
	if w.how == "read" {
		got, err = n.read(ctx, w)
	} else {
		got, err = fields{}, n.graph(ctx, w)
	}
	if err != nil {
		return nil, err
	}
	ms := time.Since(began).Milliseconds()
	if w.how == "graph" && w.out != nowhere {
		if got, err = n.offline().read(ctx, w); err != nil {
			return nil, err
		}
	}
	got["ms"] = ms
	return got, nil
}

// read does what `ipfs cat` does.
func (n *node) read(ctx context.Context, w wish) (fields, error) {
	session := merkledag.NewReadOnlyDagService(merkledag.NewSession(ctx, n.dag))
	file, err := resolve(ctx, session, w)
	if err != nil {
		return nil, err
	}
	reader, err := uio.NewDagReader(ctx, file, session)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	hash := sha256.New()
	bytes, err := copyTo(w.out, io.TeeReader(reader, hash))
	if err != nil {
		return nil, err
	}
	return fields{"bytes": bytes, "sha256": hex.EncodeToString(hash.Sum(nil))}, nil
}

// graph does what `ipfs pin add` does.
func (n *node) graph(ctx context.Context, w wish) error {
	root := w.root
	if w.path != "" {
		file, err := resolve(ctx, n.dag, w)
		if err != nil {
			return err
		}
		root = file.Cid()
	}
	return merkledag.FetchGraph(ctx, root, n.dag)
}

// resolve walks the path from the root, by directories of any kind.
func resolve(ctx context.Context, dag ipld.DAGService, w wish) (ipld.Node, error) {
	at, err := dag.Get(ctx, w.root)
	if err != nil || w.path == "" {
		return at, err
	}
	for name := range strings.SplitSeq(w.path, "/") {
		dir, err := uio.NewDirectoryFromNode(dag, at)
		if err != nil {
			return nil, err
		}
		if at, err = dir.Find(ctx, name); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return at, nil
}

func copyTo(out string, from io.Reader) (int64, error) {
	if out == nowhere {
		return io.Copy(io.Discard, from)
	}
	file, err := os.Create(out)
	if err != nil {
		return 0, err
	}
	bytes, err := io.Copy(file, from)
	return bytes, errors.Join(err, file.Close())
}
