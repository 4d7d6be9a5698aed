// Uses the client of nerdctl and stargz-snapshotter: adds the file that is named first to the RPC that is named in the file
// `api` in IPFS_PATH, reads its size and a range of it, and prints CID, size and the range in base64.
package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"

	"github.com/containerd/stargz-snapshotter/ipfs/client"
)

func run() error {
	url, err := client.GetIPFSAPIAddress(os.Getenv("IPFS_PATH"), "http")
	if err != nil {
		return err
	}
	ipfs := client.New(url)
	file, err := os.Open(os.Args[1])
	if err != nil {
		return err
	}
	defer file.Close()
	cid, err := ipfs.Add(file)
	if err != nil {
		return err
	}
	stat, err := ipfs.StatCID(cid)
	if err != nil {
		return err
	}
	offset, length := 100_000, 300_000
	body, err := ipfs.Get("/ipfs/"+cid, &offset, &length)
	if err != nil {
		return err
	}
	defer body.Close()
	part, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	fmt.Println(cid, stat.Size, base64.StdEncoding.EncodeToString(part))
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
