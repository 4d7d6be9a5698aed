// Command vectors prints golden UnixFS vectors made by boxo as JSON, so that
// the Rust UnixFS code can be checked against the implementation Kubo uses.
package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"runtime/debug"
	"strings"

	chunk "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	uio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/spaolacci/murmur3"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

type profile struct {
	name string
	uio.UnixFSProfile
}

// The parameters come from boxo itself, except that Kubo's long-standing
// `ipfs add --cid-version=1` has no named profile: it is the old one with
// CIDv1, which also turns raw leaves on.
var (
	v1     = profile{"unixfs-v1-2025", uio.UnixFS_v1_2025}
	legacy = profile{"legacy", uio.UnixFS_v0_2015}
	kuboV1 = func() profile {
		p := profile{"kubo-v1", uio.UnixFS_v0_2015}
		p.CIDVersion, p.RawLeaves = 1, true
		return p
	}()
)

type fileVector struct {
	Profile string `json:"profile"`
	Size    int64  `json:"size"`
	CID     string `json:"cid"`
	DagSize uint64 `json:"dag_size"`
}

type dirVector struct {
	Profile string            `json:"profile"`
	Name    string            `json:"name"`
	CID     string            `json:"cid"`
	DagSize uint64            `json:"dag_size"`
	Block   string            `json:"block"`
	Entries map[string]string `json:"entries"`
}

type block struct {
	CID   string `json:"cid"`
	Block string `json:"block"`
}

type shardVector struct {
	Name    string            `json:"name"`
	CID     string            `json:"cid"`
	DagSize uint64            `json:"dag_size"`
	Depth   int               `json:"depth"`
	Blocks  []block           `json:"blocks"`
	Entries map[string]string `json:"entries"`
}

type thresholdVector struct {
	Profile    string `json:"profile"`
	Entries    int    `json:"entries"`
	LastLength int    `json:"last_length"`
	BasicCID   string `json:"basic_cid"`
	HamtCID    string `json:"hamt_cid"`
}

type hashVector struct {
	Name string `json:"name"`
	Hash string `json:"hash"`
}

type vectors struct {
	Generator   string            `json:"generator"`
	Files       []fileVector      `json:"files"`
	Directories []dirVector       `json:"directories"`
	Sharded     []shardVector     `json:"sharded"`
	Threshold   []thresholdVector `json:"threshold"`
	Hashes      []hashVector      `json:"hashes"`
}

func main() {
	log.SetFlags(0)
	check()
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", " ")
	must(0, out.Encode(vectors{
		Generator:   boxoVersion(),
		Files:       files(),
		Directories: directories(),
		Sharded:     sharded(),
		Threshold:   []thresholdVector{threshold(v1, 4800), threshold(legacy, 5900)},
		Hashes:      hashes(),
	}))
}

// check compares with CIDs known from Kubo, so that a wrong use of boxo here
// cannot pass for a golden vector.
func check() {
	for _, c := range []struct {
		p             profile
		content, want string
	}{
		{legacy, "", "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"},
		{legacy, "hello world\n", "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o"},
		{v1, "", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"},
	} {
		expect(c.p.name+" file", importFile(c.p, strings.NewReader(c.content)).Cid().String(), c.want)
	}
	expect("legacy empty directory", directory(legacy, "", nil).CID, "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn")
	expect("v1 empty directory", directory(v1, "", nil).CID, "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354")
}

func files() (out []fileVector) {
	sizes := []int64{
		0, 1, 168, 256*kib - 1, 256 * kib, 256*kib + 1, mib, mib + 1, 3*mib + 5,
		174 * 256 * kib, 174*256*kib + 1, 50 * mib,
	}
	for _, p := range []profile{v1, legacy, kuboV1} {
		own := sizes
		if p.name == v1.name {
			own = append(own, 1024*mib+1) // one more than a full node of leaves
		}
		for _, n := range own {
			nd := importFile(p, pattern(n))
			out = append(out, fileVector{p.name, n, nd.Cid().String(), must(nd.Size())})
		}
	}
	return out
}

func directories() (out []dirVector) {
	for _, p := range []profile{v1, legacy} {
		one := map[string]io.Reader{"foo-0.1.0.tar.gz": pattern(168)}
		several := map[string]io.Reader{}
		for _, name := range []string{"b", "a", "ab", "Z", "ä"} {
			several[name] = strings.NewReader(name)
		}
		out = append(out, directory(p, "empty", nil), directory(p, "one", one), directory(p, "several", several))
	}
	return out
}

func directory(p profile, name string, content map[string]io.Reader) dirVector {
	dir := must(uio.NewBasicDirectory(discard{}, uio.WithCidBuilder(p.CidBuilder())))
	entries := map[string]string{}
	for name, r := range content {
		nd := importFile(p, r)
		must(0, dir.AddChild(context.Background(), name, nd))
		entries[name] = nd.Cid().String()
	}
	nd := must(dir.GetNode())
	return dirVector{p.name, name, nd.Cid().String(), must(nd.Size()), b64(nd), entries}
}

func sharded() []shardVector {
	return []shardVector{
		shard("300", numbered("file-%03d", 300)),
		// Enough for most slots of the root to hold a shard, some of them
		// with shards of their own.
		shard("800", numbered("file-%03d", 800)),
		// Few entries, yet a chain of shards with a single link each.
		shard("collision", append([]string{"a", "b"}, colliding()...)),
	}
}

// shard makes a HAMT directory whose files hold their own names.
func shard(name string, names []string) shardVector {
	v := shardVector{Name: name, Entries: map[string]string{}}
	s := store{nodes: map[cid.Cid]ipld.Node{}}
	dir := must(uio.NewHAMTDirectory(s, 0, uio.WithCidBuilder(v1.CidBuilder()), uio.WithMaxHAMTFanout(v1.HAMTShardWidth)))
	for _, n := range names {
		nd := importFile(v1, strings.NewReader(n))
		must(0, dir.AddChild(context.Background(), n, nd))
		v.Entries[n] = nd.Cid().String()
	}
	root := must(dir.GetNode())
	v.CID, v.DagSize = root.Cid().String(), must(root.Size())

	// The files are raw leaves, so whatever is dag-pb is a shard.
	var walk func(nd ipld.Node, depth int)
	walk = func(nd ipld.Node, depth int) {
		v.Depth = max(v.Depth, depth)
		v.Blocks = append(v.Blocks, block{nd.Cid().String(), b64(nd)})
		for _, l := range nd.Links() {
			if l.Cid.Type() == cid.DagProtobuf {
				walk(s.nodes[l.Cid], depth+1)
			}
		}
	}
	walk(root, 1)
	return v
}

// colliding finds two names whose hashes share their first 24 bits: three
// levels of the HAMT cannot tell them apart.
func colliding() []string {
	seen := map[uint64]string{}
	for i := 0; ; i++ {
		name := fmt.Sprintf("name-%d", i)
		prefix := murmur3.Sum64([]byte(name)) >> 40
		if other, ok := seen[prefix]; ok {
			return []string{other, name}
		}
		seen[prefix] = name
	}
}

// threshold finds where a directory turns into a HAMT: it holds the given
// number of entries and one more, whose name grows by a byte at a time.
func threshold(p profile, entries int) thresholdVector {
	p.ApplyGlobals() // how boxo is told the limit and how to estimate the size
	ctx := context.Background()
	dir := must(uio.NewDirectory(discard{}, uio.WithCidBuilder(p.CidBuilder())))
	leaf := importFile(p, strings.NewReader("x"))
	for _, name := range numbered("file-%05d", entries) {
		must(0, dir.AddChild(ctx, name, leaf))
	}
	v := thresholdVector{Profile: p.name, Entries: entries}
	for n := 1; ; n++ {
		last := strings.Repeat("z", n)
		must(0, dir.AddChild(ctx, last, leaf))
		nd := must(dir.GetNode())
		if _, ok := dir.(*uio.DynamicDirectory).Directory.(*uio.HAMTDirectory); ok {
			v.HamtCID = nd.Cid().String()
			return v
		}
		v.LastLength, v.BasicCID = n, nd.Cid().String()
		must(0, dir.RemoveChild(ctx, last))
	}
}

// hashes covers every length of murmur3's 16-byte tail.
func hashes() (out []hashVector) {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFG"
	names := []string{"ä"}
	for n := range len(letters) + 1 {
		names = append(names, letters[:n])
	}
	for _, n := range names {
		h := murmur3.New64() // as boxo's hamt package, which keeps its own private
		io.WriteString(h, n)
		out = append(out, hashVector{n, hex.EncodeToString(h.Sum(nil))})
	}
	return out
}

// importFile does what `ipfs add` does with one file.
func importFile(p profile, r io.Reader) ipld.Node {
	params := helpers.DagBuilderParams{
		Dagserv:    discard{},
		RawLeaves:  p.RawLeaves,
		Maxlinks:   p.FileDAGWidth,
		CidBuilder: p.CidBuilder(),
	}
	return must(balanced.Layout(must(params.New(chunk.NewSizeSplitter(r, p.ChunkSize)))))
}

// discard is a DAG service that keeps nothing: building only adds nodes.
type discard struct{ ipld.DAGService }

func (discard) Add(context.Context, ipld.Node) error { return nil }

// store is a DAG service that remembers what was added.
type store struct {
	ipld.DAGService
	nodes map[cid.Cid]ipld.Node
}

func (s store) Add(_ context.Context, nd ipld.Node) error {
	s.nodes[nd.Cid()] = nd
	return nil
}

// pattern yields n bytes that other languages can make without a file: the
// top byte of i times the golden ratio's 64-bit fraction.
func pattern(n int64) io.Reader { return io.LimitReader(new(patternReader), n) }

type patternReader uint64

func (r *patternReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(*r >> 56)
		*r += 0x9E3779B97F4A7C15
	}
	return len(b), nil
}

func numbered(format string, n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf(format, i))
	}
	return out
}

func b64(nd ipld.Node) string { return base64.StdEncoding.EncodeToString(nd.RawData()) }

func boxoVersion() string {
	info, _ := debug.ReadBuildInfo()
	for _, m := range info.Deps {
		if m.Path == "github.com/ipfs/boxo" {
			return m.Path + "@" + m.Version
		}
	}
	panic("boxo is not in the build info")
}

func expect(what, got, want string) {
	if got != want {
		log.Fatalf("%s: got %s, Kubo has %s", what, got, want)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
