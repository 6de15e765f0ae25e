//! Generated gRPC code, checked in: the SPIFFE Workload API and Broker API, the parts of SPIRE's server API we serve and call, Envoy's secret
//! discovery, and our own services.
//!
//! Invariant: `generated/` is exactly what `make proto` makes of `proto/`; a test compares byte for byte. Method paths are those
//! of the published definitions. Bytes are [`prost::bytes::Bytes`], so that many streams share one buffer.

mod codec;
mod reason;
pub mod speaks;

pub use codec::{ExactCodec, ExactEncoder};
pub use reason::{REASON, Reason, ReasonError};

/// The Workload API. Its definition has no package, so its paths are `/SpiffeWorkloadAPI/<Method>`.
pub mod workload {
    include!("generated/_.rs");
}

/// `spiffe.*`
pub mod spiffe {
    /// The Broker API.
    pub mod broker {
        include!("generated/spiffe.broker.rs");
    }
}

/// `spire.*`
pub mod spire {
    /// `spire.agent.*`: SPIRE left the `api` out of it.
    pub mod agent {
        /// `spire.agent.debug.*`
        pub mod debug {
            /// What the agent is.
            pub mod v1 {
                include!("generated/spire.agent.debug.v1.rs");
            }
        }
    }
    /// `spire.api.*`
    pub mod api {
        /// `spire.api.types`
        pub mod types {
            include!("generated/spire.api.types.rs");
        }
        /// `spire.api.agent.*`
        pub mod agent {
            /// `spire.api.agent.delegatedidentity.*`
            pub mod delegatedidentity {
                /// Identities for programs that act for others.
                pub mod v1 {
                    include!("generated/spire.api.agent.delegatedidentity.v1.rs");
                }
            }
            /// `spire.api.agent.logger.*`
            pub mod logger {
                /// How much the agent logs.
                pub mod v1 {
                    include!("generated/spire.api.agent.logger.v1.rs");
                }
            }
        }
        /// `spire.api.server.*`
        pub mod server {
            /// `spire.api.server.agent.*`
            pub mod agent {
                /// Nodes.
                pub mod v1 {
                    include!("generated/spire.api.server.agent.v1.rs");
                }
            }
            /// `spire.api.server.bundle.*`
            pub mod bundle {
                /// Trust bundles.
                pub mod v1 {
                    include!("generated/spire.api.server.bundle.v1.rs");
                }
            }
            /// `spire.api.server.entry.*`
            pub mod entry {
                /// Registration entries.
                pub mod v1 {
                    include!("generated/spire.api.server.entry.v1.rs");
                }
            }
            /// `spire.api.server.svid.*`
            pub mod svid {
                /// Issuing.
                pub mod v1 {
                    include!("generated/spire.api.server.svid.v1.rs");
                }
            }
            /// `spire.api.server.debug.*`
            pub mod debug {
                /// What the server is.
                pub mod v1 {
                    include!("generated/spire.api.server.debug.v1.rs");
                }
            }
            /// `spire.api.server.localauthority.*`
            pub mod localauthority {
                /// The keys that sign.
                pub mod v1 {
                    include!("generated/spire.api.server.localauthority.v1.rs");
                }
            }
            /// `spire.api.server.logger.*`
            pub mod logger {
                /// How much the server logs.
                pub mod v1 {
                    include!("generated/spire.api.server.logger.v1.rs");
                }
            }
            /// `spire.api.server.trustdomain.*`
            pub mod trustdomain {
                /// Whom we federate with.
                pub mod v1 {
                    include!("generated/spire.api.server.trustdomain.v1.rs");
                }
            }
        }
    }
}

/// `landfast.*`
pub mod landfast {
    /// `landfast.agent.*`
    pub mod agent {
        /// What the agent answers on its admin socket.
        pub mod v1 {
            include!("generated/landfast.agent.v1.rs");
        }
    }
    /// `landfast.entry.*`
    pub mod entry {
        /// What SPIRE's entry has no field for.
        pub mod v1 {
            include!("generated/landfast.entry.v1.rs");
        }
    }
    /// `landfast.info.*`
    pub mod info {
        /// What a server and its nodes are and can.
        pub mod v1 {
            include!("generated/landfast.info.v1.rs");
        }
    }
    /// `landfast.cache.*`
    pub mod cache {
        /// What an agent keeps on disk.
        pub mod v1 {
            include!("generated/landfast.cache.v1.rs");
        }
    }
    /// `landfast.reserve.*`
    pub mod reserve {
        /// What nodes have for when they are cut off.
        pub mod v1 {
            include!("generated/landfast.reserve.v1.rs");
        }
    }
    /// `landfast.selftest.*`
    pub mod selftest {
        /// What must be refused, and was tried.
        pub mod v1 {
            include!("generated/landfast.selftest.v1.rs");
        }
    }
    /// `landfast.quarantine.*`
    pub mod quarantine {
        /// What a server does that may have forgotten something.
        pub mod v1 {
            include!("generated/landfast.quarantine.v1.rs");
        }
    }
    /// `landfast.recovery.*`
    pub mod recovery {
        /// A node comes back by its device key.
        pub mod v1 {
            include!("generated/landfast.recovery.v1.rs");
        }
    }
    /// `landfast.ledger.*`
    pub mod ledger {
        /// Witnesses of the ledger, and what nodes bring into it.
        pub mod v1 {
            include!("generated/landfast.ledger.v1.rs");
        }
    }
    /// `landfast.login.*`
    pub mod login {
        /// A person is let in from another machine.
        pub mod v1 {
            include!("generated/landfast.login.v1.rs");
        }
    }
    /// `landfast.people.*`
    pub mod people {
        /// Who operates the trust domain.
        pub mod v1 {
            include!("generated/landfast.people.v1.rs");
        }
    }
    /// `landfast.chain.*`
    pub mod chain {
        /// The bundle as steps that a root key has signed.
        pub mod v1 {
            include!("generated/landfast.chain.v1.rs");
        }
    }
    /// `landfast.sync.*`
    pub mod sync {
        /// An agent is told what concerns it.
        pub mod v1 {
            include!("generated/landfast.sync.v1.rs");
        }
    }
}

/// `envoy.*`: the Secret Discovery Service and what it is made of, trimmed to what is asked and answered.
pub mod envoy {
    /// `envoy.config.*`
    pub mod config {
        /// `envoy.config.core.*`
        pub mod core {
            /// Nodes, data, extensions.
            pub mod v3 {
                include!("generated/envoy.config.core.v3.rs");
            }
        }
    }
    /// `envoy.extensions.*`
    pub mod extensions {
        /// `envoy.extensions.transport_sockets.*`
        pub mod transport_sockets {
            /// `envoy.extensions.transport_sockets.tls.*`
            pub mod tls {
                /// Secrets.
                pub mod v3 {
                    include!("generated/envoy.extensions.transport_sockets.tls.v3.rs");
                }
            }
        }
    }
    /// `envoy.service.*`
    pub mod service {
        /// `envoy.service.discovery.*`
        pub mod discovery {
            /// xDS.
            pub mod v3 {
                include!("generated/envoy.service.discovery.v3.rs");
            }
        }
        /// `envoy.service.secret.*`
        pub mod secret {
            /// SDS.
            pub mod v3 {
                include!("generated/envoy.service.secret.v3.rs");
            }
        }
    }
    /// `envoy.type.*`
    pub mod r#type {
        /// Versions.
        pub mod v3 {
            include!("generated/envoy.r#type.v3.rs");
        }
    }
}

/// `google.*`
pub mod google {
    /// `google.rpc`
    pub mod rpc {
        include!("generated/google.rpc.rs");
    }
}

/// All of the above as an encoded `google.protobuf.FileDescriptorSet`, well-known types included.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");

/// Metadata of an answer: the revision of the registry it was made from, as `epoch.number`. Answers to an agent's synchronisation have it.
pub const REVISION: &str = "landfast-revision";
/// Metadata of the same answers, and of the bundle for anybody: the server's time, in Unix seconds.
pub const TIME: &str = "landfast-time";
/// Metadata of a request for signatures: by when the soonest of them is needed, in Unix seconds; 0 when something is missing altogether.
pub const NEEDED_BY: &str = "landfast-needed-by";
/// Metadata of a refusal: in how many milliseconds to ask again (gRPC's A6 "retry pushback").
pub const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// Metadata of a refusal, whatever its value: the server is in quarantine, and wants to be shown the steps of the bundle chain that its agents have walked.
pub const QUARANTINE: &str = "landfast-quarantine";

/// Metadata of a request: the authority is to sign although there are nodes that do not know it yet, and would not accept what it signs while they are
/// cut off. SPIRE's tools do not say it.
pub const ACTIVATE_UNHEARD: &str = "landfast-activate-unheard";

/// Metadata of a request: whoever lists federation relationships, or asks for one, wants those of the server's configuration too. SPIRE knows none.
pub const WITH_CONFIGURED: &str = "landfast-with-configured";

#[cfg(test)]
mod generate;
#[cfg(test)]
mod lock;
#[cfg(test)]
mod tests;
