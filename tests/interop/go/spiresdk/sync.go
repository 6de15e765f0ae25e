package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"

	"landfast.test/interop/report"
)

// The mask that a SPIRE agent sends.
var agentMask = &types.EntryMask{
	SpiffeId: true, Selectors: true, FederatesWith: true, Admin: true, Downstream: true,
	RevisionNumber: true, StoreSvid: true, Hint: true, CreatedAt: true,
}

func (w *world) syncShort() error {
	entry := w.workload(w.node.id, "short")
	entry.Hint = "short"
	if err := w.mustCreateFor(w.node, entry); err != nil {
		return err
	}
	defer w.remove(entry.Id)

	ctx, cancel := w.short()
	defer cancel()
	stream, err := entryv1.NewEntryClient(w.node.conn).SyncAuthorizedEntries(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&entryv1.SyncAuthorizedEntriesRequest{OutputMask: agentMask}); err != nil {
		return err
	}
	answer, err := stream.Recv()
	if err != nil {
		return err
	}
	if len(answer.EntryRevisions) > 0 || answer.More || len(answer.Entries) != 1 {
		return fmt.Errorf("%d revisions, %d entries, more %t", len(answer.EntryRevisions), len(answer.Entries), answer.More)
	}
	got := answer.Entries[0]
	if got.Id != entry.Id || got.SpiffeId.GetPath() != "/sdk/short" || len(got.Selectors) != 2 || got.Hint != "short" ||
		got.CreatedAt == 0 || got.ParentId != nil || got.X509SvidTtl != 0 {
		return fmt.Errorf("through the agent's mask: %v", got)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the whole list: %v, want the end of the stream", err)
	}
	return report.All(w.getAuthorized(entry.Id), w.syncRefused())
}

func (w *world) getAuthorized(id string) error {
	ctx, cancel := w.short()
	defer cancel()
	answer, err := entryv1.NewEntryClient(w.node.conn).GetAuthorizedEntries(ctx, &entryv1.GetAuthorizedEntriesRequest{})
	if err != nil {
		return err
	}
	if len(answer.Entries) != 1 || answer.Entries[0].Id != id || answer.Entries[0].ParentId.GetPath() != w.node.id.Path() {
		return fmt.Errorf("GetAuthorizedEntries: %v", answer.Entries)
	}
	return nil
}

func (w *world) syncRefused() error {
	first := func(request *entryv1.SyncAuthorizedEntriesRequest) error {
		ctx, cancel := w.short()
		defer cancel()
		stream, err := entryv1.NewEntryClient(w.node.conn).SyncAuthorizedEntries(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		_, err = stream.Recv()
		return err
	}
	return report.All(
		report.WantCode(first(&entryv1.SyncAuthorizedEntriesRequest{OutputMask: agentMask, Ids: []string{"x"}}),
			codes.InvalidArgument, "specifying IDs on initial request is not supported"),
		report.WantCode(first(&entryv1.SyncAuthorizedEntriesRequest{OutputMask: &types.EntryMask{SpiffeId: true}}),
			codes.InvalidArgument, "revision number cannot be masked"),
	)
}

// syncLong has more entries than fit on a page: revisions come first, then what the agent asks for.
func (w *world) syncLong() error {
	const count = 620
	made := make([]*types.Entry, count)
	for i := range made {
		made[i] = w.workload(w.node.id, fmt.Sprintf("long-%d", i))
	}
	var ids []string
	for part := range slices.Chunk(made, 200) {
		if err := w.mustCreateFor(w.node, part...); err != nil {
			return err
		}
		for _, entry := range part {
			ids = append(ids, entry.Id)
		}
	}
	defer func() {
		for part := range slices.Chunk(ids, 200) {
			_, _ = w.remove(part...)
		}
	}()
	slices.Sort(ids)

	ctx, cancel := w.short()
	defer cancel()
	stream, err := entryv1.NewEntryClient(w.node.conn).SyncAuthorizedEntries(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&entryv1.SyncAuthorizedEntriesRequest{OutputMask: agentMask}); err != nil {
		return err
	}
	var listed []string
	pageSize := 0
	for more := true; more; {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if len(answer.Entries) > 0 || len(answer.EntryRevisions) == 0 {
			return fmt.Errorf("%d entries among the revisions", len(answer.Entries))
		}
		if pageSize == 0 {
			pageSize = len(answer.EntryRevisions)
		}
		for _, revision := range answer.EntryRevisions {
			if revision.CreatedAt == 0 {
				return fmt.Errorf("a revision without created_at: %v", revision)
			}
			listed = append(listed, revision.Id)
		}
		more = answer.More
	}
	slices.Sort(listed)
	if pageSize > 500 || !slices.Equal(listed, ids) {
		return fmt.Errorf("first page of %d, %d of %d revisions listed", pageSize, len(listed), count)
	}
	got, err := fetchByID(stream, ids, pageSize)
	if err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if got != count {
		return fmt.Errorf("got %d of %d entries by their IDs", got, count)
	}
	return nil
}

// fetchByID asks as an agent with an empty cache does, and for one entry that does not exist.
func fetchByID(stream entryv1.Entry_SyncAuthorizedEntriesClient, ids []string, pageSize int) (int, error) {
	got := map[string]bool{}
	for part := range slices.Chunk(ids, pageSize) {
		wanted := slices.Clone(part)
		if len(part) < pageSize {
			wanted = append(wanted, "nobody")
		}
		if err := stream.Send(&entryv1.SyncAuthorizedEntriesRequest{Ids: wanted}); err != nil {
			return 0, err
		}
		for more := true; more; {
			answer, err := stream.Recv()
			if err != nil {
				return 0, err
			}
			if len(answer.EntryRevisions) > 0 {
				return 0, fmt.Errorf("revisions among the entries")
			}
			for _, entry := range answer.Entries {
				if !slices.Contains(part, entry.Id) || len(entry.Selectors) != 2 || entry.ParentId != nil {
					return 0, fmt.Errorf("not asked for, or not through the mask: %v", entry)
				}
				got[entry.Id] = true
			}
			more = answer.More
		}
	}
	return len(got), nil
}
