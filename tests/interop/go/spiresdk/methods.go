package main

import "google.golang.org/grpc/codes"

// class is who may call a method (SPIRE's policy table); a bit each, so that a row can name several.
type class int

const (
	anybody class = 1 << iota
	local
	admin
	agent
	downstream
)

// What other changes bring. A row that names one is Unimplemented until it is true here; then its own answer is wanted.
const (
	haveDownstream = true // NewDownstreamX509CA, PublishJWTAuthority
	haveAppend     = true // AppendBundle
	haveWIT        = true // MintWITSVID, BatchNewWITSVID and the WIT side of LocalAuthority; plants/run then switches WIT-SVIDs on
)

// row is one method: who may call it, a call that harms nobody, and the answer to who may. `says` is in the message of a refusal, or in the
// answer as JSON without white space. In `ask`, $TD, $NODE, $CSR are the trust domain, the path of an agent and a request for a certificate.
type row struct {
	method string
	may    class
	ask    string
	want   codes.Code
	says   string
	absent bool // what it belongs to is not built: see above
}

const operators = local | admin

// The whole API of a SPIRE server. A method of the SDK without a row here is a failure, and so is a row without a method.
var methods = []row{
	{method: "grpc.health.v1.Health/Check", may: local, ask: `{}`, says: "SERVING"},
	{method: "grpc.health.v1.Health/List", may: local, ask: `{}`, want: codes.Unimplemented},
	{method: "grpc.health.v1.Health/Watch", may: local, ask: `{}`, says: "SERVING"},

	{method: "spire.api.server.agent.v1.Agent/AttestAgent", may: anybody, ask: `{}`, want: codes.InvalidArgument},
	{method: "spire.api.server.agent.v1.Agent/BanAgent", may: operators, ask: nobodyID, want: codes.NotFound},
	{method: "spire.api.server.agent.v1.Agent/CountAgents", may: operators, ask: `{}`, says: `"count":`},
	{method: "spire.api.server.agent.v1.Agent/CreateJoinToken", may: operators, ask: `{"ttl":60}`, says: `"value":`},
	{method: "spire.api.server.agent.v1.Agent/DeleteAgent", may: operators, ask: nobodyID, want: codes.NotFound},
	{method: "spire.api.server.agent.v1.Agent/GetAgent", may: operators, ask: `{"id":{"trustDomain":"$TD","path":"$NODE"}}`, says: "$NODE"},
	{method: "spire.api.server.agent.v1.Agent/ListAgents", may: operators, ask: `{}`, says: "$NODE"},
	{method: "spire.api.server.agent.v1.Agent/PostStatus", may: agent, ask: `{"agentVersion":"1.15.2"}`},
	{method: "spire.api.server.agent.v1.Agent/RenewAgent", may: agent, ask: `{"params":{"csr":"$CSR"}}`, says: "$NODE"},

	{method: "spire.api.server.bundle.v1.Bundle/AppendBundle", may: operators, ask: `{}`, want: codes.InvalidArgument, absent: !haveAppend},
	{method: "spire.api.server.bundle.v1.Bundle/BatchCreateFederatedBundle", may: operators, ask: `{"bundle":[{"trustDomain":"$TD"}]}`, says: `"code":3`},
	{method: "spire.api.server.bundle.v1.Bundle/BatchDeleteFederatedBundle", may: operators, ask: `{"trustDomains":["nobody.test"]}`, says: `"code":5`},
	{method: "spire.api.server.bundle.v1.Bundle/BatchSetFederatedBundle", may: operators, ask: `{"bundle":[{"trustDomain":"$TD"}]}`, says: `"code":3`},
	{method: "spire.api.server.bundle.v1.Bundle/BatchUpdateFederatedBundle", may: operators, ask: `{"bundle":[{"trustDomain":"nobody.test"}]}`, says: `"code":5`},
	{method: "spire.api.server.bundle.v1.Bundle/CountBundles", may: operators, ask: `{}`, says: `"count":`},
	{method: "spire.api.server.bundle.v1.Bundle/GetBundle", may: anybody, ask: `{}`, says: `"trustDomain":"$TD"`},
	{method: "spire.api.server.bundle.v1.Bundle/GetFederatedBundle", may: operators | agent, ask: `{"trustDomain":"nobody.test"}`, want: codes.NotFound},
	{method: "spire.api.server.bundle.v1.Bundle/ListFederatedBundles", may: operators, ask: `{}`},
	{method: "spire.api.server.bundle.v1.Bundle/PublishJWTAuthority", may: downstream, ask: `{}`, want: codes.InvalidArgument, absent: !haveDownstream},
	{method: "spire.api.server.bundle.v1.Bundle/PublishWITAuthority", may: downstream, ask: `{}`, want: codes.Unimplemented},

	{method: "spire.api.server.debug.v1.Debug/GetInfo", may: local, ask: `{}`, says: "/spire/server"},

	{method: "spire.api.server.entry.v1.Entry/BatchCreateEntry", may: operators, ask: `{"entries":[{}]}`, says: `"code":3`},
	{method: "spire.api.server.entry.v1.Entry/BatchDeleteEntry", may: operators, ask: `{"ids":["nobody"]}`, says: `"code":5`},
	{method: "spire.api.server.entry.v1.Entry/BatchUpdateEntry", may: operators, ask: `{"entries":[{"id":"nobody"}]}`, says: `"code":`},
	{method: "spire.api.server.entry.v1.Entry/CountEntries", may: operators, ask: `{}`, says: `"count":`},
	{method: "spire.api.server.entry.v1.Entry/GetAuthorizedEntries", may: agent, ask: `{}`},
	{method: "spire.api.server.entry.v1.Entry/GetEntry", may: operators, ask: `{"id":"nobody"}`, want: codes.NotFound},
	{method: "spire.api.server.entry.v1.Entry/ListEntries", may: operators, ask: `{}`, says: `"entries":`},
	{method: "spire.api.server.entry.v1.Entry/SyncAuthorizedEntries", may: agent, ask: `{}`},

	{method: "spire.api.server.localauthority.v1.LocalAuthority/ActivateJWTAuthority", may: operators, ask: `{}`, want: codes.InvalidArgument, says: "no authority ID provided"},
	{method: "spire.api.server.localauthority.v1.LocalAuthority/ActivateWITAuthority", may: operators, ask: `{}`, want: codes.InvalidArgument, says: "no authority ID provided", absent: !haveWIT},
	{method: "spire.api.server.localauthority.v1.LocalAuthority/ActivateX509Authority", may: operators, ask: `{}`, want: codes.InvalidArgument, says: "no authority ID provided"},
	{method: "spire.api.server.localauthority.v1.LocalAuthority/GetJWTAuthorityState", may: operators, ask: `{}`, says: `"active":`},
	{method: "spire.api.server.localauthority.v1.LocalAuthority/GetWITAuthorityState", may: operators, ask: `{}`, says: `"active":`, absent: !haveWIT},
	{method: "spire.api.server.localauthority.v1.LocalAuthority/GetX509AuthorityState", may: operators, ask: `{}`, says: `"active":`},
	{method: "spire.api.server.localauthority.v1.LocalAuthority/PrepareJWTAuthority", may: operators, ask: `{}`, says: `"preparedAuthority":`},
	{method: "spire.api.server.localauthority.v1.LocalAuthority/PrepareWITAuthority", may: operators, ask: `{}`, says: `"preparedAuthority":`, absent: !haveWIT},
	{method: "spire.api.server.localauthority.v1.LocalAuthority/PrepareX509Authority", may: operators, ask: `{}`, says: `"preparedAuthority":`},
	{method: "spire.api.server.localauthority.v1.LocalAuthority/RevokeJWTAuthority", may: operators, ask: `{"authorityId":"nobody"}`, want: codes.InvalidArgument},
	{method: "spire.api.server.localauthority.v1.LocalAuthority/RevokeWITAuthority", may: operators, ask: `{"authorityId":"nobody"}`, want: codes.InvalidArgument, absent: !haveWIT},
	{method: "spire.api.server.localauthority.v1.LocalAuthority/RevokeX509Authority", may: operators, ask: `{"authorityId":"nobody"}`, want: codes.InvalidArgument},
	{method: "spire.api.server.localauthority.v1.LocalAuthority/RevokeX509UpstreamAuthority", may: operators, ask: `{"subjectKeyId":"00"}`, want: codes.FailedPrecondition, says: "upstream authority is not configured"},
	{method: "spire.api.server.localauthority.v1.LocalAuthority/TaintJWTAuthority", may: operators, ask: `{"authorityId":"nobody"}`, want: codes.InvalidArgument},
	{method: "spire.api.server.localauthority.v1.LocalAuthority/TaintWITAuthority", may: operators, ask: `{"authorityId":"nobody"}`, want: codes.InvalidArgument, absent: !haveWIT},
	{method: "spire.api.server.localauthority.v1.LocalAuthority/TaintX509Authority", may: operators, ask: `{"authorityId":"nobody"}`, want: codes.InvalidArgument},
	{method: "spire.api.server.localauthority.v1.LocalAuthority/TaintX509UpstreamAuthority", may: operators, ask: `{"subjectKeyId":"00"}`, want: codes.FailedPrecondition, says: "upstream authority is not configured"},

	{method: "spire.api.server.logger.v1.Logger/GetLogger", may: local, ask: `{}`, says: `"currentLevel":`},
	{method: "spire.api.server.logger.v1.Logger/ResetLogLevel", may: local, ask: `{}`, says: `"currentLevel":`},
	{method: "spire.api.server.logger.v1.Logger/SetLogLevel", may: local, ask: `{"newLevel":"INFO"}`, says: `"currentLevel":"INFO"`},

	{method: "spire.api.server.svid.v1.SVID/BatchNewWITSVID", may: agent, ask: `{}`, want: codes.InvalidArgument, absent: !haveWIT},
	{method: "spire.api.server.svid.v1.SVID/BatchNewX509SVID", may: agent, ask: `{"params":[{"entryId":"nobody","csr":"$CSR"}]}`, says: `"code":5`},
	{method: "spire.api.server.svid.v1.SVID/MintJWTSVID", may: operators, ask: `{"id":{"trustDomain":"$TD","path":"/minted"},"audience":["a"]}`, says: `"token":`},
	{method: "spire.api.server.svid.v1.SVID/MintWITSVID", may: operators, ask: `{}`, want: codes.InvalidArgument, absent: !haveWIT},
	{method: "spire.api.server.svid.v1.SVID/MintX509SVID", may: operators, ask: `{"csr":"$CSR"}`, says: `"certChain":`},
	{method: "spire.api.server.svid.v1.SVID/NewDownstreamX509CA", may: downstream, ask: `{}`, want: codes.InvalidArgument, absent: !haveDownstream},
	{method: "spire.api.server.svid.v1.SVID/NewJWTSVID", may: agent, ask: `{"entryId":"nobody","audience":["a"]}`, want: codes.NotFound},

	{method: "spire.api.server.trustdomain.v1.TrustDomain/BatchCreateFederationRelationship", may: operators, ask: `{"federationRelationships":[{"trustDomain":"$TD"}]}`, says: `"code":3`},
	{method: "spire.api.server.trustdomain.v1.TrustDomain/BatchDeleteFederationRelationship", may: operators, ask: `{"trustDomains":["nobody.test"]}`, says: `"code":5`},
	{method: "spire.api.server.trustdomain.v1.TrustDomain/BatchUpdateFederationRelationship", may: operators, ask: `{"federationRelationships":[{"trustDomain":"nobody.test"}]}`, says: `"code":`},
	{method: "spire.api.server.trustdomain.v1.TrustDomain/GetFederationRelationship", may: operators, ask: `{"trustDomain":"nobody.test"}`, want: codes.NotFound},
	{method: "spire.api.server.trustdomain.v1.TrustDomain/ListFederationRelationships", may: operators, ask: `{}`},
	{method: "spire.api.server.trustdomain.v1.TrustDomain/RefreshBundle", may: operators, ask: `{"trustDomain":"nobody.test"}`, want: codes.NotFound},
}

const nobodyID = `{"id":{"trustDomain":"$TD","path":"/spire/agent/join_token/nobody"}}`
