package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/client"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	flatfs "github.com/ipfs/go-ds-flatfs"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
)

type config struct {
	store    string // a directory, "memory", or "" for a directory that is removed at the end
	sync     bool
	listen   string
	announce string
	swarmKey string
}

// A node is what of a Kubo node moves blocks.
type node struct {
	host   host.Host
	blocks blockstore.Blockstore
	dag    ipld.DAGService
	closes []func() error
}

func start(ctx context.Context, c config) (*node, error) {
	n := new(node)
	if err := n.open(ctx, c); err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

func (n *node) open(ctx context.Context, c config) error {
	store, err := n.datastore(c)
	if err != nil {
		return err
	}
	n.closing(store.Close)
	if n.blocks, err = blocks(ctx, store); err != nil {
		return err
	}
	if n.host, err = newHost(c); err != nil {
		return err
	}
	n.closing(n.host.Close)
	// All else is as Kubo has it by default. There is no routing: who has the
	// blocks is dialled, or dials.
	swap := bitswap.New(ctx, bsnet.NewFromIpfsHost(n.host), nil, n.blocks,
		bitswap.WithClientOption(client.BroadcastControlEnable(true)))
	n.closing(swap.Close)
	n.dag = over(n.blocks, swap)
	return nil
}

// datastore opens the store, of which flatfs has Kubo's way of sharding.
func (n *node) datastore(c config) (datastore.Batching, error) {
	switch c.store {
	case "memory":
		return dssync.MutexWrap(datastore.NewMapDatastore()), nil
	case "":
		dir, err := os.MkdirTemp("", "boxo-peer-")
		if err != nil {
			return nil, err
		}
		n.closing(func() error { return os.RemoveAll(dir) })
		c.store = dir
	}
	if err := os.MkdirAll(c.store, 0o755); err != nil {
		return nil, err
	}
	return flatfs.CreateOrOpen(filepath.Join(c.store, "blocks"), flatfs.NextToLast(2), c.sync)
}

// blocks puts over a datastore what Kubo does: writes without looking first,
// a cache of what is there, and no bloom filter.
func blocks(ctx context.Context, store datastore.Batching) (blockstore.Blockstore, error) {
	// Kubo's prefix for blocks is where it mounts flatfs, which has no prefixes.
	bare := blockstore.NewBlockstore(store, blockstore.WriteThrough(true), blockstore.NoPrefix())
	caches := blockstore.DefaultCacheOpts()
	caches.HasBloomFilterSize = 0
	cached, err := blockstore.CachedBlockstore(ctx, bare, caches)
	if err != nil {
		return nil, err
	}
	return blockstore.NewIdStore(cached), nil
}

func over(blocks blockstore.Blockstore, swap exchange.Interface) ipld.DAGService {
	return merkledag.NewDAGService(blockservice.New(blocks, swap, blockservice.WriteThrough(true)))
}

// offline is the same node without its network.
func (n *node) offline() *node {
	return &node{blocks: n.blocks, dag: over(n.blocks, offline.Exchange(n.blocks))}
}

// newHost listens, and reaches nobody by itself.
func newHost(c config) (host.Host, error) {
	limits, err := limits()
	if err != nil {
		return nil, err
	}
	options := []libp2p.Option{
		libp2p.ListenAddrStrings(c.listen),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ResourceManager(limits),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
	}
	if c.announce != "" {
		announce, err := ma.NewMultiaddr(c.announce)
		if err != nil {
			return nil, err
		}
		options = append(options, libp2p.AddrsFactory(func([]ma.Multiaddr) []ma.Multiaddr {
			return []ma.Multiaddr{announce}
		}))
	}
	if c.swarmKey != "" {
		key, err := readKey(c.swarmKey)
		if err != nil {
			return nil, err
		}
		options = append(options, libp2p.PrivateNetwork(key))
	}
	return libp2p.New(options...)
}

func readKey(path string) (pnet.PSK, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return pnet.DecodeV1PSK(file)
}

func (n *node) closing(close func() error) { n.closes = append(n.closes, close) }

// close ends the parts in the opposite order of their start.
func (n *node) close() error {
	var errs []error
	for i := len(n.closes) - 1; i >= 0; i-- {
		errs = append(errs, n.closes[i]())
	}
	return errors.Join(errs...)
}
