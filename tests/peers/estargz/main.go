// Reads an eStargz layer with the library of stargz-snapshotter: checks its table of contents against the digest that is
// named second, reads each file chunk by chunk and checks the digests of these, and prints a line for each entry.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path"
	"sort"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/opencontainers/go-digest"
)

func run(file, tocDigest string) error {
	layer, err := os.Open(file)
	if err != nil {
		return err
	}
	defer layer.Close()
	info, err := layer.Stat()
	if err != nil {
		return err
	}
	reader, err := estargz.Open(io.NewSectionReader(layer, 0, info.Size()))
	if err != nil {
		return err
	}
	verifier, err := reader.VerifyTOC(digest.Digest(tocDigest))
	if err != nil {
		return err
	}
	root, ok := reader.Lookup("")
	if !ok {
		return fmt.Errorf("no root directory")
	}
	return walk(reader, verifier, "", root)
}

func walk(reader *estargz.Reader, verifier estargz.TOCEntryVerifier, at string, entry *estargz.TOCEntry) error {
	switch entry.Type {
	case "dir":
		var names []string
		children := map[string]*estargz.TOCEntry{}
		entry.ForeachChild(func(name string, child *estargz.TOCEntry) bool {
			names = append(names, name)
			children[name] = child
			return true
		})
		sort.Strings(names)
		fmt.Printf("dir %s\n", at)
		for _, name := range names {
			if err := walk(reader, verifier, path.Join(at, name), children[name]); err != nil {
				return err
			}
		}
		return nil
	case "reg":
		sum, err := readFile(reader, verifier, entry)
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		fmt.Printf("reg %s %o %d %s %d\n", at, entry.Mode, entry.Size, sum, len(entry.Xattrs))
	default:
		fmt.Printf("%s %s %s\n", entry.Type, at, entry.LinkName)
	}
	return nil
}

func readFile(reader *estargz.Reader, verifier estargz.TOCEntryVerifier, entry *estargz.TOCEntry) (string, error) {
	whole := sha256.New()
	if entry.Size > 0 {
		bytes, err := reader.OpenFile(entry.Name)
		if err != nil {
			return "", err
		}
		for offset := int64(0); offset < entry.Size; {
			chunk, ok := reader.ChunkEntryForOffset(entry.Name, offset)
			if !ok || chunk.ChunkOffset != offset {
				return "", fmt.Errorf("no chunk begins at %d", offset)
			}
			part := make([]byte, chunk.ChunkSize)
			if _, err := bytes.ReadAt(part, offset); err != nil {
				return "", err
			}
			check, err := verifier.Verifier(chunk)
			if err != nil {
				return "", err
			}
			check.Write(part)
			if !check.Verified() {
				return "", fmt.Errorf("the chunk at %d has another digest", offset)
			}
			whole.Write(part)
			offset += chunk.ChunkSize
		}
	}
	sum := fmt.Sprintf("sha256:%x", whole.Sum(nil))
	if entry.Size > 0 && sum != entry.Digest {
		return "", fmt.Errorf("the digest is %s, expected %s", sum, entry.Digest)
	}
	return sum, nil
}

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
