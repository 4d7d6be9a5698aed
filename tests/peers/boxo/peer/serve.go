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
	cidutil "github.com/ipfs/go-cidutil"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

var profiles = map[string]uio.UnixFSProfile{
	"unixfs-v1-2025": uio.UnixFS_v1_2025,
	"legacy":         uio.UnixFS_v0_2015,
	"kubo-v1":        kuboV1(),
}

// kuboV1 is `ipfs add --cid-version=1` as it was for long, and as nerdctl adds.
func kuboV1() uio.UnixFSProfile {
	p := uio.UnixFS_v0_2015
	p.CIDVersion, p.RawLeaves = 1, true
	return p
}

// adder does what `ipfs add` does.
type adder struct {
	dag     ipld.DAGService
	profile uio.UnixFSProfile
	shard   bool
	inline  int // blocks of at most so many bytes are their CIDs
}

func (a adder) builder() cid.Builder {
	if a.inline == 0 {
		return a.profile.CidBuilder()
	}
	return cidutil.InlineBuilder{Builder: a.profile.CidBuilder(), Limit: a.inline}
}

func serve(ctx context.Context, args []string) error {
	flags, c := nodeFlags("serve")
	name := flags.String("profile", "unixfs-v1-2025", "")
	wrap := flags.Bool("wrap", false, "")
	shard := flags.Bool("shard", false, "")
	inline := flags.Int("inline", 0, "")
	chunkSize := flags.Int64("chunk", 0, "")
	files, err := parse(flags, args)
	if err != nil {
		return err
	}
	profile, known := profiles[*name]
	if !known {
		return fmt.Errorf("--profile %s: no such profile\n%s", *name, usage)
	}
	if *chunkSize > 0 {
		profile.ChunkSize = *chunkSize
	}
	n, err := start(ctx, *c)
	if err != nil {
		return err
	}
	defer n.close()
	how := adder{profile: profile, shard: *shard, inline: *inline}
	for _, file := range files {
		root, err := n.add(ctx, file, how, *wrap)
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

// add adds a file, or a folder with all that is in it.
func (n *node) add(ctx context.Context, path string, a adder, wrap bool) (cid.Cid, error) {
	a.profile.ApplyGlobals()
	batch := ipld.NewBufferedDAG(ctx, n.dag)
	a.dag = batch
	root, err := a.add(ctx, path)
	if err != nil {
		return cid.Undef, err
	}
	if wrap {
		entries := map[string]ipld.Node{filepath.Base(path): root}
		if root, err = a.directory(ctx, entries); err != nil {
			return cid.Undef, err
		}
	}
	return root.Cid(), batch.Commit()
}

func (a adder) add(ctx context.Context, path string) (ipld.Node, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return a.file(path)
	}
	names, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	entries := make(map[string]ipld.Node)
	for _, name := range names {
		if entries[name.Name()], err = a.add(ctx, filepath.Join(path, name.Name())); err != nil {
			return nil, err
		}
	}
	return a.directory(ctx, entries)
}

func (a adder) file(path string) (ipld.Node, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	params := helpers.DagBuilderParams{
		Dagserv:    a.dag,
		RawLeaves:  a.profile.RawLeaves,
		Maxlinks:   a.profile.FileDAGWidth,
		CidBuilder: a.builder(),
	}
	builder, err := params.New(chunk.NewSizeSplitter(file, a.profile.ChunkSize))
	if err != nil {
		return nil, err
	}
	return balanced.Layout(builder)
}

// directory makes and stores one with these entries.
func (a adder) directory(ctx context.Context, entries map[string]ipld.Node) (ipld.Node, error) {
	dir, err := a.empty()
	if err != nil {
		return nil, err
	}
	for name, entry := range entries {
		if err := dir.AddChild(ctx, name, entry); err != nil {
			return nil, err
		}
	}
	root, err := dir.GetNode()
	if err != nil {
		return nil, err
	}
	return root, a.dag.Add(ctx, root)
}

func (a adder) empty() (uio.Directory, error) {
	builder := uio.WithCidBuilder(a.builder())
	if a.shard {
		return uio.NewHAMTDirectory(a.dag, 0, builder, uio.WithMaxHAMTFanout(a.profile.HAMTShardWidth))
	}
	return uio.NewDirectory(a.dag, builder)
}

func texts(addrs []ma.Multiaddr) []string {
	texts := make([]string, len(addrs))
	for i, addr := range addrs {
		texts[i] = addr.String()
	}
	return texts
}
