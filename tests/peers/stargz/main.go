// A stargz snapshotter: containerd's snapshots of eStargz layers, which are mounted with FUSE and read when a container
// reads them. Its library does all of that; this program serves it on a socket, for layers in IPFS and in registries over
// plain HTTP.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/contrib/snapshotservice"
	stargzfs "github.com/containerd/stargz-snapshotter/fs"
	"github.com/containerd/stargz-snapshotter/service"
	"github.com/containerd/stargz-snapshotter/service/resolver"
	"google.golang.org/grpc"
)

func main() {
	socket := flag.String("socket", "", "where containerd connects")
	root := flag.String("root", "", "the directory of the snapshots")
	background := flag.Bool("background", false, "fetch the rest of a layer while nothing reads it")
	insecure := flag.String("insecure", "", "HOST:PORT of a registry that speaks plain HTTP")
	flag.Parse()
	if err := serve(*socket, *root, *background, *insecure); err != nil {
		log.Fatal(err)
	}
}

func serve(socket, root string, background bool, insecure string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	config := service.Config{}
	config.NoBackgroundFetch = !background
	config.NoPrometheus = true
	if insecure != "" {
		config.ResolverConfig.Host = map[string]resolver.HostConfig{
			insecure: {Mirrors: []resolver.MirrorConfig{{Host: insecure, Insecure: true}}},
		}
	}
	snapshotter, err := service.NewStargzSnapshotterService(ctx, root, &config,
		service.WithFilesystemOptions(stargzfs.WithResolveHandler("ipfs", ipfsLayers{})))
	if err != nil {
		return err
	}
	if err := os.RemoveAll(socket); err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(snapshotter))
	go func() {
		<-ctx.Done()
		server.Stop()
	}()
	if err := server.Serve(listener); err != nil {
		return err
	}
	return snapshotter.Close()
}
