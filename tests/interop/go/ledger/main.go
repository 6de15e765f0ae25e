// Command ledger verifies the ledger of the running server with Go's sumdb/note and sumdb/tlog, which know nothing of us: the checkpoint, every
// record through tiles that tlog checks, and the proofs that `landfast audit prove` gives. Whatever was tampered with must be refused.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"landfast.test/interop/report"
)

// A checkpoint of the ledger, verified by sumdb/note.
type checkpoint struct {
	text string
	tree tlog.Tree
}

type world struct {
	ledger   ledger
	landfast string
	work     string
	verifier note.Verifier
	first    checkpoint
	latest   checkpoint
}

func main() {
	r := report.New("ledger")
	w := world{
		ledger:   ledger{dir: report.Env("INTEROP_LEDGER")},
		landfast: report.Env("INTEROP_LANDFAST"),
		work:     report.Env("INTEROP_LEDGER_WORK"),
	}
	if r.Check("sumdb/note reads the verifier key and opens the checkpoint", w.open) {
		r.Check("the checkpoint that is grown is signed by the same key", w.grow)
		r.Check("sumdb/tlog reads every record through tiles that it checks", w.records)
		r.Check("inclusion: the proof of landfast audit prove holds for tlog.CheckRecord", func() error { return w.steady(w.inclusion) })
		r.Check("consistency: the proof of landfast audit prove holds for tlog.CheckTree", func() error { return w.steady(w.consistency) })
		r.Check("a checkpoint that was changed, or of another key, is refused", w.changedCheckpoint)
		r.Check("a tile that was changed is refused", w.changedTile)
		r.Check("a record that was changed is refused", w.changedRecord)
		r.Check("a proof that was changed, or is of another record, is refused", func() error { return w.steady(w.changedProof) })
	}
	r.Close()
}

func (w *world) open() (err error) {
	key, err := os.ReadFile(filepath.Join(w.ledger.dir, "verifier-key"))
	if err != nil {
		return err
	}
	if w.verifier, err = note.NewVerifier(strings.TrimSpace(string(key))); err != nil {
		return err
	}
	w.first, err = w.read()
	return err
}

// The server signs one each ten seconds as long as records come, and in this world SVIDs rotate all the time.
func (w *world) grow() (err error) {
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if w.latest, err = w.read(); err != nil {
			return err
		}
		if w.latest.tree.N > w.first.tree.N {
			return os.WriteFile(filepath.Join(w.work, "first"), []byte(w.first.text), 0o600)
		}
	}
	return errors.New("no later checkpoint in 60 s")
}

func (w *world) read() (checkpoint, error) {
	text, err := os.ReadFile(filepath.Join(w.ledger.dir, "checkpoint"))
	if err != nil {
		return checkpoint{}, err
	}
	return parse(string(text), w.verifier)
}

func parse(text string, verifier note.Verifier) (checkpoint, error) {
	opened, err := note.Open([]byte(text), note.VerifierList(verifier))
	if err != nil {
		return checkpoint{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return checkpoint{}, fmt.Errorf("no checkpoint of %s: %q", verifier.Name(), opened.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return checkpoint{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return checkpoint{text: text, tree: tlog.Tree{N: size, Hash: root}}, err
}

func (w *world) records() error {
	return w.steady(func() error { return w.ledger.verify(w.latest.tree) })
}

// The partial tiles of a checkpoint go when the next is there: whoever reads beside the server takes the next then.
func (w *world) steady(check func() error) error {
	var err error
	for range 20 {
		if err = check(); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if w.latest, err = w.read(); err != nil {
			return err
		}
	}
	return err
}

func (w *world) changedCheckpoint() error {
	size := strconv.FormatInt(w.latest.tree.N, 10)
	grown := strings.Replace(w.latest.text, "\n"+size+"\n", "\n"+size+"0\n", 1)
	if _, err := parse(grown, w.verifier); err == nil {
		return errors.New("another size opens")
	}
	_, public, err := note.GenerateKey(nil, w.verifier.Name())
	if err != nil {
		return err
	}
	other, err := note.NewVerifier(public)
	if err != nil {
		return err
	}
	if _, err := parse(w.latest.text, other); err == nil {
		return errors.New("another key of the same name opens it")
	}
	return nil
}

func (w *world) changedTile() error {
	return w.steady(func() error {
		changed := ledger{dir: w.ledger.dir, change: func(path string, data []byte) {
			if strings.HasPrefix(path, "tile/0/") {
				data[0] ^= 1
			}
		}}
		return refused(changed.verify(w.latest.tree), "inconsistent tile")
	})
}

func (w *world) changedRecord() error {
	return w.steady(func() error {
		changed := ledger{dir: w.ledger.dir, change: func(path string, data []byte) {
			if strings.HasPrefix(path, "tile/entries/") {
				at := bytes.Index(data, []byte(`"type"`))
				data[at+1] = 'T'
			}
		}}
		return refused(changed.verify(w.latest.tree), "is not the one of its tile")
	})
}

func refused(err error, because string) error {
	switch {
	case err == nil:
		return errors.New("it is accepted")
	case errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), because):
		if errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	default:
		return fmt.Errorf("refused for another reason: %w", err)
	}
}
