package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// The height of C2SP's tiles: 256 hashes.
const height = 8

// A ledger as files. What is read goes through change first, when there is one.
type ledger struct {
	dir    string
	change func(path string, data []byte)
}

// Height, ReadTiles and SaveTiles make it a tlog.TileReader.
func (l ledger) Height() int { return height }

func (l ledger) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		// tlog names the height in the path, tlog-tiles does not.
		path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
		data, err := l.file(path)
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func (l ledger) SaveTiles([]tlog.Tile, [][]byte) {}

func (l ledger) file(path string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(l.dir, path))
	if err == nil && l.change != nil {
		l.change(path, data)
	}
	return data, err
}

// verify compares every record with the hash that tlog has proven to be in the tree.
func (l ledger) verify(tree tlog.Tree) error {
	reader := tlog.TileHashReader(tree, l)
	for from := int64(0); from < tree.N; from += 1 << height {
		width := min(tree.N-from, 1<<height)
		records, err := l.bundle(from>>height, width)
		if err != nil {
			return err
		}
		indexes := make([]int64, width)
		for i := range indexes {
			indexes[i] = tlog.StoredHashIndex(0, from+int64(i))
		}
		hashes, err := reader.ReadHashes(indexes)
		if err != nil {
			return err
		}
		for i, record := range records {
			if tlog.RecordHash(record) != hashes[i] {
				return fmt.Errorf("record %d is not the one of its tile", from+int64(i))
			}
		}
	}
	return nil
}

// bundle is the records from 256·n on, each behind its length.
func (l ledger) bundle(n, width int64) ([][]byte, error) {
	tile := tlog.Tile{H: height, L: 0, N: n, W: int(width)}
	path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/0/", height), "tile/entries/", 1)
	data, err := l.file(path)
	if err != nil {
		return nil, err
	}
	var records [][]byte
	for range width {
		if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
			return nil, fmt.Errorf("%s ends in a record", path)
		}
		end := 2 + int(binary.BigEndian.Uint16(data))
		records = append(records, data[2:end])
		data = data[end:]
	}
	if len(data) > 0 {
		return nil, fmt.Errorf("%s has more than its records", path)
	}
	return records, nil
}
