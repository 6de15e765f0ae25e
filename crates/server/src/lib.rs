//! Landfast's signing server.

mod admission;
mod answers;
mod api;
mod attestation;
pub mod authority;
mod authz;
pub mod backup;
mod chain;
mod command_line;
mod config;
mod core;
pub mod datastore;
mod endpoints;
mod federation;
mod forward;
pub mod issuance;
mod journals;
mod ledger;
mod login;
mod migrations;
mod peers;
mod people;
mod publish;
mod push;
mod quarantine;
mod random;
pub mod registry;
mod reserve;
mod server;
mod turns;
mod upstream;

pub use chain::RootKeyConfig;
pub use command_line::{CommandLine, Output, Verb};
pub use config::{ServerConfig, ServerLimits, X509PopConfig};
pub use core::{Core, CoreError, CoreParams};
pub use datastore::postgres::{PostgresConfig, TargetError, accept_loss};
pub use federation::{DangerNetworks, FederationConfig, StaticRelationship};
pub use forward::{ForwardConfig, Target as ForwardTarget};
pub use ledger::{Ledger, LedgerError, OpenLedgerError};
pub use login::{LoginConfig, ProviderConfig};
pub use migrations::{DatabaseReport, check_database};
pub use people::{Login, NameError, OidcSubject, PeopleError, PersonRef};
pub use publish::{
    CertificateError, CertificateFiles, Issuer, MargoDiscovery, PublishAddresses, PublishConfig,
    PublishError, WebConfig,
};
pub use reserve::{ReserveError, ReserveLimits};
pub use server::{Server, ServerError, ServerHandle, ServerParts};
pub use upstream::{DiskConfig, ParentConfig, UpstreamCheckError, UpstreamConfig};
