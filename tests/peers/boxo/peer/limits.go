package main

import (
	"syscall"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/pbnjay/memory"
)

// limits are Kubo's: half of the memory and of the files for all peers, and
// for one peer nothing but a limit on what it opens, scaled to that memory.
func limits() (network.ResourceManager, error) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return nil, err
	}
	bytes, open := int64(memory.TotalMemory()/2), int(files.Cur/2)

	partial := rcmgr.InfiniteLimits.ToPartialLimitConfig()
	for scope, share := range map[*rcmgr.ResourceLimits]int64{&partial.System: 1, &partial.Transient: 4} {
		scope.Memory = rcmgr.LimitVal64(bytes / share)
		scope.FD = rcmgr.LimitVal(open) / rcmgr.LimitVal(share)
		scope.ConnsInbound = rcmgr.LimitVal(bytes >> 20 / share)
	}
	partial.PeerDefault.ConnsInbound = rcmgr.DefaultLimit
	partial.PeerDefault.StreamsInbound = rcmgr.DefaultLimit

	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(partial.Build(scaling.Scale(bytes, open))))
}
