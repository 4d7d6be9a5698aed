// Goes through the calls of Kubo's RPC client in Go against the RPC at the given multiaddr; prints "done", or fails.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ipfs/boxo/files"
	"github.com/ipfs/boxo/path"
	"github.com/ipfs/kubo/client/rpc"
	iface "github.com/ipfs/kubo/core/coreiface"
	"github.com/ipfs/kubo/core/coreiface/options"
	ma "github.com/multiformats/go-multiaddr"
)

type client struct {
	*rpc.HttpApi
	ctx context.Context
}

func (c client) read(p path.Path) ([]byte, error) {
	node, err := c.Unixfs().Get(c.ctx, p)
	if err != nil {
		return nil, err
	}
	file, ok := node.(files.File)
	if !ok {
		return nil, fmt.Errorf("%s is not a file", p)
	}
	defer file.Close()
	return io.ReadAll(file)
}

func expect(what string, found, expected any) error {
	if fmt.Sprint(found) != fmt.Sprint(expected) {
		return fmt.Errorf("%s is %v, expected %v", what, found, expected)
	}
	return nil
}

func (c client) addAndRead() error {
	content := bytes.Repeat([]byte("0123456789"), 100_000)
	added, err := c.Unixfs().Add(c.ctx, files.NewBytesFile(content), options.Unixfs.CidVersion(1))
	if err != nil {
		return err
	}
	dir := files.NewMapDirectory(map[string]files.Node{
		"a":   files.NewBytesFile([]byte("hi\n")),
		"sub": files.NewMapDirectory(map[string]files.Node{"b": files.NewBytesFile([]byte("yo\n"))}),
	})
	root, err := c.Unixfs().Add(c.ctx, dir, options.Unixfs.Pin(true, "tree"))
	if err != nil {
		return err
	}
	below, err := path.Join(root, "sub", "b")
	if err != nil {
		return err
	}
	small, err := c.read(below)
	if err != nil {
		return err
	}
	large, err := c.read(added)
	if err != nil {
		return err
	}
	var names []string
	for entry, err := range iface.LsIter(c.ctx, c.Unixfs(), root) {
		if err != nil {
			return err
		}
		names = append(names, fmt.Sprint(entry.Name, ":", entry.Type))
	}
	resolved, rest, err := c.ResolvePath(c.ctx, below)
	if err != nil {
		return err
	}
	again, err := c.read(resolved)
	return errors.Join(err,
		expect("the small file", string(small), "yo\n"),
		expect("the large file", bytes.Equal(large, content), true),
		expect("the directory", names, []string{"a:file", "sub:directory"}),
		expect("what is left of the path", len(rest), 0),
		expect("the resolved file", string(again), "yo\n"))
}

func (c client) pins() error {
	added, err := c.Unixfs().Add(c.ctx, files.NewBytesFile([]byte("pinned")), options.Unixfs.Pin(false, ""))
	if err != nil {
		return err
	}
	_, before, err := c.Pin().IsPinned(c.ctx, added)
	if err != nil {
		return err
	}
	if err := c.Pin().Add(c.ctx, added, options.Pin.Name("one")); err != nil {
		return err
	}
	reason, after, err := c.Pin().IsPinned(c.ctx, added)
	if err != nil {
		return err
	}
	pins := make(chan iface.Pin)
	listed := make(chan error, 1)
	go func() { listed <- c.Pin().Ls(c.ctx, pins, options.Pin.Ls.Recursive(), options.Pin.Ls.Detailed(true)) }()
	name := ""
	for pin := range pins {
		if pin.Path().RootCid() == added.RootCid() {
			name = pin.Name()
		}
	}
	if err := <-listed; err != nil {
		return err
	}
	if err := c.Pin().Rm(c.ctx, added); err != nil {
		return err
	}
	err = c.Pin().Rm(c.ctx, added)
	return errors.Join(
		expect("pinned before", before, false),
		expect("pinned after", after, true),
		expect("the kind of the pin", reason, "recursive"),
		expect("the name of the pin", name, "one"),
		expect("the second removal", err != nil && strings.Contains(err.Error(), "not pinned"), true))
}

func (c client) blocks() error {
	put, err := c.Block().Put(c.ctx, strings.NewReader("block"), options.Block.Format("raw"))
	if err != nil {
		return err
	}
	stat, err := c.Block().Stat(c.ctx, put.Path())
	if err != nil {
		return err
	}
	body, err := c.Block().Get(c.ctx, put.Path())
	if err != nil {
		return err
	}
	block, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	node, err := c.Dag().Get(c.ctx, put.Path().RootCid())
	if err != nil {
		return err
	}
	return errors.Join(c.Block().Rm(c.ctx, put.Path()),
		expect("the size of the block", stat.Size(), 5),
		expect("the block", string(block), "block"),
		expect("the node", string(node.RawData()), "block"))
}

func (c client) names() error {
	key, err := c.Key().Generate(c.ctx, "go", options.Key.Type(options.Ed25519Key))
	if err != nil {
		return err
	}
	keys, err := c.Key().List(c.ctx)
	if err != nil {
		return err
	}
	added, err := c.Unixfs().Add(c.ctx, files.NewBytesFile([]byte("named")))
	if err != nil {
		return err
	}
	name, err := c.Name().Publish(c.ctx, added, options.Name.Key("go"), options.Name.AllowOffline(true))
	if err != nil {
		return err
	}
	resolved, err := c.Name().Resolve(c.ctx, name.String())
	if err != nil {
		return err
	}
	if _, err := c.Key().Remove(c.ctx, "go"); err != nil {
		return err
	}
	return errors.Join(
		expect("the keys", len(keys), 2),
		expect("the name", name.Peer(), key.ID()),
		expect("what the name means", resolved, added))
}

func (c client) peers() error {
	self, err := c.Key().Self(c.ctx)
	if err != nil {
		return err
	}
	if _, err := c.Swarm().Peers(c.ctx); err != nil {
		return err
	}
	addrs, err := c.Swarm().ListenAddrs(c.ctx)
	if err != nil {
		return err
	}
	return errors.Join(
		expect("its ID is known", self.ID() != "", true),
		expect("it listens", len(addrs) > 0, true))
}

func run() error {
	addr, err := ma.NewMultiaddr(os.Args[1])
	if err != nil {
		return err
	}
	api, err := rpc.NewApi(addr)
	if err != nil {
		return err
	}
	c := client{api, context.Background()}
	for _, step := range []struct {
		name string
		run  func() error
	}{
		{"add and read", c.addAndRead}, {"pins", c.pins}, {"blocks", c.blocks}, {"peers", c.peers}, {"names", c.names},
	} {
		if err := step.run(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	fmt.Println("done")
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
