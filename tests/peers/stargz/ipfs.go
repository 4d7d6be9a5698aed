package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"github.com/containerd/stargz-snapshotter/fs/remote"
	"github.com/containerd/stargz-snapshotter/ipfs"
	ipfsclient "github.com/containerd/stargz-snapshotter/ipfs/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ipfsLayers reads layers whose descriptors have an ipfs:// URL by the RPC that $IPFS_PATH/api names, as the daemon of
// stargz-snapshotter does with ipfs = true.
type ipfsLayers struct{}

func (ipfsLayers) Handle(_ context.Context, desc ocispec.Descriptor) (remote.Fetcher, int64, error) {
	cid, err := ipfs.GetCID(desc)
	if err != nil {
		return nil, 0, err
	}
	// The file is read again for each layer, so it may come later than this program.
	address, err := ipfsclient.GetIPFSAPIAddress(os.Getenv("IPFS_PATH"), "http")
	if err != nil {
		return nil, 0, err
	}
	layer := &ipfsLayer{client: ipfsclient.New(address), cid: cid}
	info, err := layer.client.StatCID(cid)
	if err != nil {
		return nil, 0, err
	}
	return layer, int64(info.Size), nil
}

type ipfsLayer struct {
	client *ipfsclient.Client
	cid    string
}

func (l *ipfsLayer) Fetch(_ context.Context, offset, size int64) (io.ReadCloser, error) {
	from, length := int(offset), int(size)
	return l.client.Get("/ipfs/"+l.cid, &from, &length)
}

func (l *ipfsLayer) Check() error {
	_, err := l.client.StatCID(l.cid)
	return err
}

func (l *ipfsLayer) GenID(offset, size int64) string {
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%s-%d-%d", l.cid, offset, size)))
}
