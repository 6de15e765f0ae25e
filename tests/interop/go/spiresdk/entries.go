package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	entryv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/entry/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"landfast.test/interop/report"
)

func (w *world) entryClient() entryv1.EntryClient { return entryv1.NewEntryClient(w.local) }

func (w *world) sample(name string) *types.Entry {
	return &types.Entry{
		SpiffeId: protoID(w.id("sdk", name)),
		ParentId: protoID(w.id("sdk-node")),
		Selectors: []*types.Selector{
			{Type: "unix", Value: "uid:4711"},
			{Type: "unix", Value: "path:/opt/" + name},
		},
	}
}

func (w *world) create(entries ...*types.Entry) ([]*entryv1.BatchCreateEntryResponse_Result, error) {
	ctx, cancel := w.short()
	defer cancel()
	answer, err := w.entryClient().BatchCreateEntry(ctx, &entryv1.BatchCreateEntryRequest{Entries: entries})
	if err != nil {
		return nil, err
	}
	if len(answer.Results) != len(entries) {
		return nil, fmt.Errorf("%d results for %d entries", len(answer.Results), len(entries))
	}
	return answer.Results, nil
}

// mustCreate gives the entries their IDs.
func (w *world) mustCreate(entries ...*types.Entry) error {
	results, err := w.create(entries...)
	if err != nil {
		return err
	}
	for i, result := range results {
		if err := report.WantStatus(result.Status.Code, result.Status.Message, codes.OK); err != nil {
			return err
		}
		entries[i].Id = result.Entry.Id
	}
	return nil
}

// mustCreateFor also waits until the node may have them: a server may look for changes every few seconds only.
func (w *world) mustCreateFor(n *node, entries ...*types.Entry) error {
	if err := w.mustCreate(entries...); err != nil {
		return err
	}
	var seen map[string]bool
	for until := time.Now().Add(12 * time.Second); time.Now().Before(until); time.Sleep(200 * time.Millisecond) {
		ctx, cancel := w.short()
		answer, err := entryv1.NewEntryClient(n.conn).GetAuthorizedEntries(ctx, &entryv1.GetAuthorizedEntriesRequest{})
		cancel()
		if err != nil {
			return err
		}
		seen = map[string]bool{}
		for _, entry := range answer.Entries {
			seen[entry.Id] = true
		}
		if !slices.ContainsFunc(entries, func(e *types.Entry) bool { return !seen[e.Id] }) {
			return nil
		}
	}
	return fmt.Errorf("the node may not have all of %d entries, but %d others", len(entries), len(seen))
}

func (w *world) remove(ids ...string) ([]*entryv1.BatchDeleteEntryResponse_Result, error) {
	ctx, cancel := w.short()
	defer cancel()
	answer, err := w.entryClient().BatchDeleteEntry(ctx, &entryv1.BatchDeleteEntryRequest{Ids: ids})
	if err != nil {
		return nil, err
	}
	return answer.Results, nil
}

func (w *world) entries() error {
	wanted := w.sample("whole")
	wanted.X509SvidTtl, wanted.JwtSvidTtl, wanted.Hint, wanted.DnsNames = 90, 45, "whole", []string{"a.plant.test", "b.plant.test"}
	wanted.FederatesWith = []string{w.foreign.IDString()}
	results, err := w.create(wanted)
	if err != nil {
		return err
	}
	made := results[0].Entry
	if err := report.WantStatus(results[0].Status.Code, results[0].Status.Message, codes.OK); err != nil {
		return err
	}
	if made.Id == "" || made.RevisionNumber != 0 || made.CreatedAt == 0 || made.X509SvidTtl != 90 || made.JwtSvidTtl != 45 ||
		made.Hint != "whole" || !slices.Equal(made.DnsNames, wanted.DnsNames) || len(made.Selectors) != 2 ||
		!slices.Equal(made.FederatesWith, []string{w.foreign.Name()}) || made.ParentId.GetPath() != "/sdk-node" {
		return fmt.Errorf("made %v", made)
	}

	again, err := w.create(w.sample("whole"))
	if err != nil {
		return err
	}
	if err := report.WantStatus(again[0].Status.Code, again[0].Status.Message, codes.AlreadyExists, "similar entry already exists"); err != nil {
		return err
	}
	if again[0].Entry.GetId() != made.Id {
		return fmt.Errorf("the refused duplicate names %q, not %q", again[0].Entry.GetId(), made.Id)
	}
	return report.All(w.updateEntry(made), w.showAndDelete(made.Id))
}

func (w *world) updateEntry(made *types.Entry) error {
	ctx, cancel := w.short()
	defer cancel()
	answer, err := w.entryClient().BatchUpdateEntry(ctx, &entryv1.BatchUpdateEntryRequest{
		Entries: []*types.Entry{
			{Id: made.Id, Hint: "changed", X509SvidTtl: 33},
			{Id: "3f7b0c0e-0000-4000-8000-000000000000", Hint: "nobody"},
		},
		InputMask: &types.EntryMask{Hint: true},
	})
	if err != nil {
		return err
	}
	if len(answer.Results) != 2 {
		return fmt.Errorf("%d results of two updates", len(answer.Results))
	}
	if err := report.All(
		report.WantStatus(answer.Results[0].Status.Code, answer.Results[0].Status.Message, codes.OK),
		report.WantStatus(answer.Results[1].Status.Code, answer.Results[1].Status.Message, codes.NotFound),
	); err != nil {
		return err
	}
	changed := answer.Results[0].Entry
	if changed.Hint != "changed" || changed.X509SvidTtl != 90 || changed.RevisionNumber != 1 || len(changed.Selectors) != 2 {
		return fmt.Errorf("after an update of the hint alone: %v", changed)
	}
	return nil
}

func (w *world) showAndDelete(id string) error {
	ctx, cancel := w.short()
	defer cancel()
	shown, err := w.entryClient().GetEntry(ctx, &entryv1.GetEntryRequest{Id: id, OutputMask: &types.EntryMask{Hint: true}})
	if err != nil {
		return err
	}
	if shown.Id != id || shown.Hint != "changed" || shown.SpiffeId != nil || len(shown.Selectors) > 0 || shown.RevisionNumber != 0 {
		return fmt.Errorf("mask for the hint alone brought %v", shown)
	}
	results, err := w.remove(id, id)
	if err != nil {
		return err
	}
	_, getErr := w.entryClient().GetEntry(ctx, &entryv1.GetEntryRequest{Id: id})
	_, noIDErr := w.entryClient().GetEntry(ctx, &entryv1.GetEntryRequest{})
	return report.All(
		report.WantStatus(results[0].Status.Code, results[0].Status.Message, codes.OK),
		report.WantStatus(results[1].Status.Code, results[1].Status.Message, codes.NotFound),
		report.WantCode(getErr, codes.NotFound),
		report.WantCode(noIDErr, codes.InvalidArgument),
	)
}

func (w *world) badEntries() error {
	spoil := map[string]func(*types.Entry){
		"no SPIFFE ID":       func(e *types.Entry) { e.SpiffeId = nil },
		"no parent":          func(e *types.Entry) { e.ParentId = nil },
		"no selector":        func(e *types.Entry) { e.Selectors = nil },
		"empty selector":     func(e *types.Entry) { e.Selectors[0].Value = "" },
		"colon in type":      func(e *types.Entry) { e.Selectors[0].Type = "unix:uid" },
		"foreign ID":         func(e *types.Entry) { e.SpiffeId.TrustDomain = w.foreign.Name() },
		"foreign parent":     func(e *types.Entry) { e.ParentId.TrustDomain = w.foreign.Name() },
		"reserved ID":        func(e *types.Entry) { e.SpiffeId.Path = "/spire/agent/x/y" },
		"ID without path":    func(e *types.Entry) { e.SpiffeId.Path = "" },
		"ID with dot path":   func(e *types.Entry) { e.SpiffeId.Path = "/a/../b" },
		"negative TTL":       func(e *types.Entry) { e.X509SvidTtl = -1 },
		"DNS name":           func(e *types.Entry) { e.DnsNames = []string{"a..b"} },
		"hint of 1025 bytes": func(e *types.Entry) { e.Hint = strings.Repeat("h", 1025) },
		"entry ID":           func(e *types.Entry) { e.Id = "a/b" },
	}
	for name, spoil := range spoil {
		entry := w.sample("bad")
		spoil(entry)
		results, err := w.create(entry)
		if err != nil {
			return fmt.Errorf("%s: the whole batch: %w", name, err)
		}
		if err := report.WantStatus(results[0].Status.Code, results[0].Status.Message, codes.InvalidArgument); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	stranger := w.sample("bad")
	stranger.FederatesWith = []string{"never-heard-of.test"}
	results, err := w.create(stranger)
	if err != nil {
		return err
	}
	if results[0].Status.Code == int32(codes.OK) {
		return fmt.Errorf("federation with an unknown trust domain accepted")
	}
	return nil
}

func (w *world) entryLists() error {
	made := []*types.Entry{w.sample("list-a"), w.sample("list-b"), w.sample("list-c")}
	made[1].Hint, made[2].Downstream = "sdk-hint", true
	if err := w.mustCreate(made...); err != nil {
		return err
	}
	defer w.remove(made[0].Id, made[1].Id, made[2].Id)

	parent := protoID(w.id("sdk-node"))
	filters := map[string]struct {
		filter *entryv1.ListEntriesRequest_Filter
		want   []*types.Entry
	}{
		"SPIFFE ID": {&entryv1.ListEntriesRequest_Filter{BySpiffeId: made[0].SpiffeId}, made[:1]},
		"parent":    {&entryv1.ListEntriesRequest_Filter{ByParentId: parent}, made},
		"hint":      {&entryv1.ListEntriesRequest_Filter{ByHint: wrapperspb.String("sdk-hint")}, made[1:2]},
		"downstream": {&entryv1.ListEntriesRequest_Filter{
			ByParentId: parent, ByDownstream: wrapperspb.Bool(true)}, made[2:]},
		"exact selectors": {&entryv1.ListEntriesRequest_Filter{ByParentId: parent, BySelectors: &types.SelectorMatch{
			Selectors: made[0].Selectors, Match: types.SelectorMatch_MATCH_EXACT}}, made[:1]},
		"superset of selectors": {&entryv1.ListEntriesRequest_Filter{ByParentId: parent, BySelectors: &types.SelectorMatch{
			Selectors: made[0].Selectors[:1], Match: types.SelectorMatch_MATCH_SUPERSET}}, made},
		"subset of selectors": {&entryv1.ListEntriesRequest_Filter{ByParentId: parent, BySelectors: &types.SelectorMatch{
			Selectors: append(slices.Clone(made[0].Selectors), made[1].Selectors...),
			Match:     types.SelectorMatch_MATCH_SUBSET}}, made[:2]},
		"any selector": {&entryv1.ListEntriesRequest_Filter{ByParentId: parent, BySelectors: &types.SelectorMatch{
			Selectors: made[1].Selectors[1:], Match: types.SelectorMatch_MATCH_ANY}}, made[1:2]},
	}
	for name, c := range filters {
		if err := w.wantListed(&entryv1.ListEntriesRequest{Filter: c.filter}, c.want); err != nil {
			return fmt.Errorf("by %s: %w", name, err)
		}
		if err := w.wantListed(&entryv1.ListEntriesRequest{Filter: c.filter, PageSize: 1}, c.want); err != nil {
			return fmt.Errorf("by %s, one a page: %w", name, err)
		}
	}
	ctx, cancel := w.short()
	defer cancel()
	count, err := w.entryClient().CountEntries(ctx, &entryv1.CountEntriesRequest{
		Filter: &entryv1.CountEntriesRequest_Filter{ByParentId: parent},
	})
	if err == nil && count.Count != 3 {
		return fmt.Errorf("counted %d of 3", count.Count)
	}
	return err
}

// wantListed follows the page tokens, as the command line does.
func (w *world) wantListed(request *entryv1.ListEntriesRequest, want []*types.Entry) error {
	var got, ids []string
	for page := 0; page < 20; page++ {
		ctx, cancel := w.short()
		answer, err := w.entryClient().ListEntries(ctx, request)
		cancel()
		if err != nil {
			return err
		}
		if request.PageSize > 0 && len(answer.Entries) > int(request.PageSize) {
			return fmt.Errorf("%d entries on a page of %d", len(answer.Entries), request.PageSize)
		}
		for _, entry := range answer.Entries {
			got = append(got, entry.Id)
		}
		if request.PageToken = answer.NextPageToken; request.PageToken == "" {
			break
		}
	}
	for _, entry := range want {
		ids = append(ids, entry.Id)
	}
	slices.Sort(got)
	slices.Sort(ids)
	if !slices.Equal(got, ids) {
		return fmt.Errorf("listed %v, want %v", got, ids)
	}
	return nil
}

// workload is an entry below the attested node.
func (w *world) workload(parent spiffeid.ID, name string) *types.Entry {
	entry := w.sample(name)
	entry.ParentId = protoID(parent)
	return entry
}
