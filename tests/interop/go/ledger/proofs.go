package main

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// What `landfast audit prove` prints: lines of C2SP's tlog-proof or of a tlog-witness's request, an empty line, a checkpoint.
type proof struct {
	head   []string
	hashes []tlog.Hash
	at     checkpoint
}

func (w *world) prove(arguments ...string) (proof, error) {
	arguments = append([]string{"audit", "prove", w.ledger.dir, "--key", filepath.Join(w.ledger.dir, "verifier-key")}, arguments...)
	out, err := exec.Command(w.landfast, arguments...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return proof{}, fmt.Errorf("landfast %s: %w: %s", strings.Join(arguments, " "), err, exit.Stderr)
	}
	if err != nil {
		return proof{}, err
	}
	lines, text, found := strings.Cut(string(out), "\n\n")
	if !found {
		return proof{}, fmt.Errorf("no checkpoint in %q", out)
	}
	var made proof
	for _, line := range strings.Split(lines, "\n") {
		if hash, err := tlog.ParseHash(line); err == nil {
			made.hashes = append(made.hashes, hash)
		} else {
			made.head = append(made.head, line)
		}
	}
	made.at, err = parse(text, w.verifier)
	return made, err
}

func (w *world) inclusion() error {
	for _, index := range []int64{0, w.first.tree.N / 2, w.first.tree.N - 1} {
		proven, hash, err := w.included(index)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proven.hashes, proven.at.tree.N, proven.at.tree.Hash, index, hash); err != nil {
			return fmt.Errorf("record %d: %w", index, err)
		}
	}
	return nil
}

func (w *world) included(index int64) (proof, tlog.Hash, error) {
	proven, err := w.prove("--record", strconv.FormatInt(index, 10))
	if err != nil {
		return proven, tlog.Hash{}, err
	}
	want := []string{"c2sp.org/tlog-proof@v1", fmt.Sprintf("index %d", index)}
	if strings.Join(proven.head, "\n") != strings.Join(want, "\n") {
		return proven, tlog.Hash{}, fmt.Errorf("it begins with %q, want %q", proven.head, want)
	}
	size := proven.at.tree.N
	bundle := index >> height
	records, err := w.ledger.bundle(bundle, min(size-bundle<<height, 1<<height))
	if err != nil {
		return proven, tlog.Hash{}, err
	}
	return proven, tlog.RecordHash(records[index&(1<<height-1)]), nil
}

func (w *world) consistency() error {
	proven, err := w.continued()
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("old %d", w.first.tree.N); strings.Join(proven.head, "\n") != want {
		return fmt.Errorf("it begins with %q, want %q", proven.head, want)
	}
	return tlog.CheckTree(proven.hashes, proven.at.tree.N, proven.at.tree.Hash, w.first.tree.N, w.first.tree.Hash)
}

func (w *world) continued() (proof, error) {
	return w.prove("--since", filepath.Join(w.work, "first"))
}

func (w *world) changedProof() error {
	index := w.first.tree.N / 2
	proven, hash, err := w.included(index)
	if err != nil {
		return err
	}
	tree := proven.at.tree
	if tlog.CheckRecord(proven.hashes, tree.N, tree.Hash, index^1, hash) == nil {
		return errors.New("a record proves to be another one")
	}
	proven.hashes[0][0] ^= 1
	if tlog.CheckRecord(proven.hashes, tree.N, tree.Hash, index, hash) == nil {
		return errors.New("an inclusion proof that was changed is accepted")
	}
	continued, err := w.continued()
	if err != nil {
		return err
	}
	changed := w.first.tree.Hash
	changed[0] ^= 1
	if tlog.CheckTree(continued.hashes, continued.at.tree.N, continued.at.tree.Hash, w.first.tree.N, changed) == nil {
		return errors.New("another beginning is accepted")
	}
	return nil
}
