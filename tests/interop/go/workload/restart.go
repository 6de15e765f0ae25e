package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"landfast.test/interop/report"
)

// restart holds a source open while ../run restarts the agent, and waits for what only the new one can have sent.
func (w *world) restart() error {
	ctx, cancel := context.WithTimeout(w.ctx, 60*time.Second)
	defer cancel()
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	dir := report.Env("INTEROP_RESTART")
	if err := os.WriteFile(filepath.Join(dir, "go.ready"), nil, 0o600); err != nil {
		return err
	}
	before := ""
	for {
		svid, err := source.GetX509SVID()
		if err != nil {
			return err
		}
		serial := svid.Certificates[0].SerialNumber.String()
		_, err = os.Stat(filepath.Join(dir, "restarted"))
		if restarted := err == nil; !restarted {
			before = serial
		} else if serial != before {
			return nil
		}
		short, stop := context.WithTimeout(ctx, time.Second)
		_ = source.WaitUntilUpdated(short)
		stop()
		if ctx.Err() != nil {
			return fmt.Errorf("no new SVID after the restart: %w", ctx.Err())
		}
	}
}
