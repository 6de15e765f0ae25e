package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"

	"landfast.test/interop/report"
)

func (w *world) jwtSource() error {
	source, err := workloadapi.NewJWTSource(w.ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	svid, err := source.FetchJWTSVID(w.ctx, jwtsvid.Params{
		Audience: w.audience, ExtraAudiences: []string{"historian"}, Subject: w.second,
	})
	if err != nil {
		return err
	}
	valid, err := jwtsvid.ParseAndValidate(svid.Marshal(), source, []string{"historian"})
	if err != nil {
		return err
	}
	if valid.ID != w.second || !slices.Equal(valid.Audience, []string{w.audience, "historian"}) {
		return fmt.Errorf("token of %s for %v", valid.ID, valid.Audience)
	}
	told, err := workloadapi.ValidateJWTSVID(w.ctx, svid.Marshal(), w.audience)
	if err != nil {
		return fmt.Errorf("the agent's opinion: %w", err)
	}
	if told.ID != w.second || told.Claims["sub"] != w.second.String() {
		return fmt.Errorf("the agent took it for %s, claims %v", told.ID, told.Claims)
	}
	if _, err := source.GetJWTBundleForTrustDomain(w.foreign); err != nil {
		return fmt.Errorf("federated JWT bundle: %w", err)
	}
	return nil
}

func (w *world) jwtForAll() error {
	svids, err := workloadapi.FetchJWTSVIDs(w.ctx, jwtsvid.Params{Audience: w.audience})
	if err != nil {
		return err
	}
	hints := map[string]string{}
	for _, svid := range svids {
		hints[svid.ID.String()] = svid.Hint
	}
	if len(svids) != 2 || hints[w.first.String()] != "first" || hints[w.second.String()] != "second" {
		return fmt.Errorf("got %v", hints)
	}
	return nil
}

func (w *world) wrongAudience() error {
	source, err := workloadapi.NewJWTSource(w.ctx)
	if err != nil {
		return err
	}
	defer source.Close()
	svid, err := source.FetchJWTSVID(w.ctx, jwtsvid.Params{Audience: w.audience})
	if err != nil {
		return err
	}
	if _, err := jwtsvid.ParseAndValidate(svid.Marshal(), source, []string{"somebody-else"}); err == nil {
		return errors.New("go-spiffe accepted it")
	}
	_, err = workloadapi.ValidateJWTSVID(w.ctx, svid.Marshal(), "somebody-else")
	return report.WantCode(err, codes.InvalidArgument)
}

func (w *world) changedSignature() error {
	svid, err := workloadapi.FetchJWTSVID(w.ctx, jwtsvid.Params{Audience: w.audience})
	if err != nil {
		return err
	}
	head, signature, _ := strings.Cut(svid.Marshal()[strings.Index(svid.Marshal(), ".")+1:], ".")
	other := "A"
	if strings.HasPrefix(signature, "A") {
		other = "B"
	}
	token := svid.Marshal()[:strings.Index(svid.Marshal(), ".")+1] + head + "." + other + signature[1:]
	_, err = workloadapi.ValidateJWTSVID(w.ctx, token, w.audience)
	return report.WantCode(err, codes.InvalidArgument)
}

func (w *world) foreignSubject() error {
	_, err := workloadapi.FetchJWTSVID(w.ctx, jwtsvid.Params{
		Audience: w.audience, Subject: spiffeid.RequireFromSegments(w.domain, "interop", "third"),
	})
	return report.WantCode(err, codes.PermissionDenied)
}
