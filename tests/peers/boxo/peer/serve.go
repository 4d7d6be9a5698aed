package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	chunk "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

var profiles = map[string]uio.UnixFSProfile{
	"unixfs-v1-2025": uio.UnixFS_v1_2025,
	"legacy":         uio.UnixFS_v0_2015,
}

func serve(ctx context.Context, args []string) error {
	flags, c := nodeFlags("serve")
	name := flags.String("profile", "unixfs-v1-2025", "")
	wrap := flags.Bool("wrap", false, "")
	files, err := parse(flags, args)
	if err != nil {
		return err
	}
	profile, known := profiles[*name]
	if !known {
		return fmt.Errorf("--profile %s: no such profile\n%s", *name, usage)
	}
	n, err := start(ctx, *c)
	if err != nil {
		return err
	}
	defer n.close()
	for _, file := range files {
		root, err := n.add(ctx, file, profile, *wrap)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		say("added", fields{"file": file, "cid": root.String()})
	}
	addrs, err := peer.AddrInfoToP2pAddrs(host.InfoFromHost(n.host))
	if err != nil {
		return err
	}
	// `listen` is for a proxy in front, where only that one is announced.
	say("ready", fields{
		"peer":   n.host.ID().String(),
		"addrs":  texts(addrs),
		"listen": texts(n.host.Network().ListenAddresses()),
	})
	<-ctx.Done()
	return nil
}

// add does what `ipfs add` does with one file.
func (n *node) add(ctx context.Context, path string, profile uio.UnixFSProfile, wrap bool) (cid.Cid, error) {
	profile.ApplyGlobals()
	file, err := os.Open(path)
	if err != nil {
		return cid.Undef, err
	}
	defer file.Close()
	batch := ipld.NewBufferedDAG(ctx, n.dag)
	params := helpers.DagBuilderParams{
		Dagserv:    batch,
		RawLeaves:  profile.RawLeaves,
		Maxlinks:   profile.FileDAGWidth,
		CidBuilder: profile.CidBuilder(),
	}
	builder, err := params.New(chunk.NewSizeSplitter(file, profile.ChunkSize))
	if err != nil {
		return cid.Undef, err
	}
	root, err := balanced.Layout(builder)
	if err != nil {
		return cid.Undef, err
	}
	if wrap {
		if root, err = directory(ctx, batch, profile, filepath.Base(path), root); err != nil {
			return cid.Undef, err
		}
	}
	return root.Cid(), batch.Commit()
}

// directory makes and stores one with a single entry.
func directory(ctx context.Context, dag ipld.DAGService, profile uio.UnixFSProfile, name string, entry ipld.Node) (ipld.Node, error) {
	dir, err := uio.NewDirectory(dag, uio.WithCidBuilder(profile.CidBuilder()))
	if err != nil {
		return nil, err
	}
	if err := dir.AddChild(ctx, name, entry); err != nil {
		return nil, err
	}
	root, err := dir.GetNode()
	if err != nil {
		return nil, err
	}
	return root, dag.Add(ctx, root)
}

func texts(addrs []ma.Multiaddr) []string {
	texts := make([]string, len(addrs))
	for i, addr := range addrs {
		texts[i] = addr.String()
	}
	return texts
}
