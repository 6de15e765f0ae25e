//! An entry's fields as options, and what they say that may not be meant.

use std::time::Duration;

use clap::Args;
use landfast_identity::{Selector, SpiffeId, TrustDomain};
use landfast_lifecycle::{Clock as _, SystemClock};
use landfast_proto::spire::api::types::{self, entry::AdditionalAttributes};

use crate::failure::Failure;
use crate::wire;

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// The identity.
    #[arg(long)]
    spiffe_id: SpiffeId,
    /// The node (landfast agent list), or a node alias.
    #[arg(long, required_unless_present = "node")]
    parent_id: Option<SpiffeId>,
    /// The entry is an alias for nodes; the selectors are those of node attestation.
    #[arg(long, conflicts_with = "parent_id")]
    node: bool,
    /// What a process must have, as unix:uid:1000; can be repeated, all must fit.
    #[arg(long, required = true)]
    selector: Vec<Selector>,
    /// The entry's ID; chosen by the server when not given.
    #[arg(long)]
    id: Option<String>,
    /// The workload is of a supplier: it has to expire, and somebody answers for it.
    #[arg(long, requires = "sponsor", requires = "contract", requires = "expires_in")]
    third_party: bool,
    /// Of a third party: the reference of the person who answers for it (landfast person list).
    #[arg(long, requires = "third_party", value_name = "PERSON")]
    sponsor: Option<String>,
    /// Of a third party: under which contract.
    #[arg(long, requires = "third_party", value_name = "TEXT")]
    contract: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Args, Debug)]
pub(crate) struct UpdateArgs {
    /// The entry's ID.
    id: String,
    /// The identity.
    #[arg(long)]
    spiffe_id: Option<SpiffeId>,
    /// The node or node alias.
    #[arg(long)]
    parent_id: Option<SpiffeId>,
    /// What a process must have, in place of what it had to have; can be repeated.
    #[arg(long)]
    selector: Vec<Selector>,
    #[command(flatten)]
    common: CommonArgs,
}

/// A flag takes `true` or `false`, so that it can be taken back.
#[derive(Args, Debug)]
struct CommonArgs {
    /// How long X509-SVIDs are valid, as 90s, 5m, 1h.
    #[arg(long, value_parser = wire::duration)]
    x509_ttl: Option<Duration>,
    /// How long JWT-SVIDs are valid.
    #[arg(long, value_parser = wire::duration)]
    jwt_ttl: Option<Duration>,
    /// A trust domain whose bundle the workload gets too; can be repeated.
    #[arg(long, value_name = "TRUST-DOMAIN")]
    federates_with: Vec<TrustDomain>,
    /// A DNS name for the certificate; can be repeated.
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// Tells a workload with several identities which this is.
    #[arg(long)]
    hint: Option<String>,
    /// The entry ends after this time.
    #[arg(long, value_name = "DURATION", value_parser = wire::duration)]
    expires_in: Option<Duration>,
    /// The workload may administer the server.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    admin: Option<bool>,
    /// The workload is a server below ours.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    downstream: Option<bool>,
    /// Has no X509-SVID made before somebody asks for one.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    no_prefetch: Option<bool>,
    /// JWT-SVIDs get a jti. One that is still young is given to a caller again.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    jti: Option<bool>,
}

impl CreateArgs {
    /// Sponsor and contract.
    pub(super) fn party(&self) -> Option<(String, String)> {
        let both = self.sponsor.clone().zip(self.contract.clone());
        both.filter(|_| self.third_party)
    }

    pub(super) fn entry(&self) -> Result<types::Entry, Failure> {
        let parent = match &self.parent_id {
            Some(parent) => parent.clone(),
            None => SpiffeId::server(self.spiffe_id.trust_domain()),
        };
        let mut entry = self.common.entry()?;
        entry.id = self.id.clone().unwrap_or_default();
        entry.spiffe_id = Some(wire::id(&self.spiffe_id));
        entry.parent_id = Some(wire::id(&parent));
        entry.selectors = self.selector.iter().map(wire::selector).collect();
        Ok(entry)
    }
}

impl UpdateArgs {
    /// The values, and which of them count.
    pub(super) fn patch(&self) -> Result<(types::Entry, types::EntryMask), Failure> {
        let mut entry = self.common.entry()?;
        entry.id.clone_from(&self.id);
        entry.spiffe_id = self.spiffe_id.as_ref().map(wire::id);
        entry.parent_id = self.parent_id.as_ref().map(wire::id);
        entry.selectors = self.selector.iter().map(wire::selector).collect();
        let common = &self.common;
        let mask = types::EntryMask {
            spiffe_id: self.spiffe_id.is_some(),
            parent_id: self.parent_id.is_some(),
            selectors: !self.selector.is_empty(),
            x509_svid_ttl: common.x509_ttl.is_some(),
            jwt_svid_ttl: common.jwt_ttl.is_some(),
            federates_with: !common.federates_with.is_empty(),
            dns_names: !common.dns.is_empty(),
            hint: common.hint.is_some(),
            expires_at: common.expires_in.is_some(),
            admin: common.admin.is_some(),
            downstream: common.downstream.is_some(),
            additional_attributes: entry.additional_attributes.is_some(),
            ..types::EntryMask::default()
        };
        if mask == types::EntryMask::default() {
            return Err(Failure::usage(
                "nothing to change was given",
                "landfast entry update --help shows what can be",
            ));
        }
        Ok((entry, mask))
    }
}

impl CommonArgs {
    fn entry(&self) -> Result<types::Entry, Failure> {
        let expires_at = match self.expires_in {
            None => 0,
            Some(after) => SystemClock
                .now()
                .map(|now| now.saturating_add(after).as_secs())
                .ok_or_else(|| Failure::failed("this machine has no time of day", "set its clock"))?,
        };
        let attributes = (self.no_prefetch.is_some() || self.jti.is_some()).then(|| AdditionalAttributes {
            disable_x509_svid_prefetch: self.no_prefetch.unwrap_or(false),
            jwt_svid_include_jti: self.jti.unwrap_or(false),
        });
        Ok(types::Entry {
            x509_svid_ttl: wire::seconds(self.x509_ttl),
            jwt_svid_ttl: wire::seconds(self.jwt_ttl),
            federates_with: self.federates_with.iter().map(ToString::to_string).collect(),
            dns_names: self.dns.clone(),
            hint: self.hint.clone().unwrap_or_default(),
            expires_at,
            admin: self.admin.unwrap_or(false),
            downstream: self.downstream.unwrap_or(false),
            additional_attributes: attributes,
            ..types::Entry::default()
        })
    }
}
