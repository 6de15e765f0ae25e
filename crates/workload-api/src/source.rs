//! What the Workload API is served from: identities and attestation, both behind traits.
//!
//! Invariant: a view is complete; it is replaced, never changed.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use landfast_identity::{Bundle, BundleSet, PrivateKey, SelectorSet, SpiffeId, UnixTime, X509Svid};
use landfast_uds::PinnedProcess;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{HandOut, Party, Way};

/// Everything one set of selectors is entitled to now, complete and ready to serve.
#[derive(Clone, Debug)]
pub struct WorkloadView {
    /// X509-SVIDs, the default one first, in a stable order (Workload API §8); hints may be there more than once.
    pub x509: Vec<ServedX509>,
    /// For whom JWT-SVIDs can be had, in the same order.
    pub jwt_identities: Vec<ServedJwtIdentity>,
    /// The bundle of our own trust domain.
    pub own_bundle: Arc<Bundle>,
    /// The bundles of the foreign trust domains that the identities federate with.
    pub federated: Vec<Arc<Bundle>>,
    /// Whether the above may be served.
    pub state: ViewState,
}

/// What to answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ViewState {
    /// Nothing is known yet: wait a little, then Unavailable.
    Starting,
    /// No registration fits: PermissionDenied.
    NoIdentity,
    /// X509-SVIDs are being fetched, or ran out while no server could be reached: whoever asks for them waits. Bundles and tokens are
    /// served.
    WithoutX509,
    /// Serve.
    Ready,
}

impl ViewState {
    /// Whether what is asked for can be served.
    pub(crate) fn is_served(self, wanted: Wanted) -> bool {
        self != Self::NoIdentity && self.answers(wanted)
    }

    /// Whether an answer can be given, perhaps a refusal.
    pub(crate) fn answers(self, wanted: Wanted) -> bool {
        match self {
            Self::Starting => false,
            Self::WithoutX509 => wanted != Wanted::X509Svids,
            Self::NoIdentity | Self::Ready => true,
        }
    }
}

/// What a caller asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    X509Svids,
    /// X509-SVIDs as they come, and bundles: whoever asks does not wait for the first.
    Secrets,
    /// Bundles, tokens, and judgements on tokens.
    Rest,
}

/// An X509-SVID with what an operator says of it.
#[derive(Clone, Debug)]
pub struct ServedX509 {
    /// Chain and key.
    pub svid: Arc<X509Svid>,
    /// What it is for; may be empty.
    pub hint: String,
    /// The registration it comes from.
    pub entry_id: String,
    /// Not where another identity of the caller, whether its SVID is here or not, has the same hint by an older right (Workload API §5.2.1):
    /// then it is had by its name alone.
    pub told: bool,
    /// It was had ahead, for when no server can be reached.
    pub reserve: bool,
}

/// An identity for which JWT-SVIDs can be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServedJwtIdentity {
    /// The subject.
    pub id: SpiffeId,
    /// What it is for; may be empty.
    pub hint: String,
}

/// A JWT-SVID.
#[derive(Clone, PartialEq, Eq)]
pub struct FetchedJwt {
    /// The subject.
    pub id: SpiffeId,
    /// Compact serialization.
    pub token: String,
    /// What it is for; may be empty.
    pub hint: String,
    /// The registration it comes from; empty for who has it from elsewhere.
    pub entry_id: String,
    /// It was had ahead, for when no server can be reached.
    pub reserve: bool,
}

/// Whoever has the token is believed: it is in no log.
impl fmt::Debug for FetchedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("FetchedJwt");
        let shown = shown.field("id", &self.id).field("hint", &self.hint);
        let shown = shown
            .field("entry_id", &self.entry_id)
            .field("reserve", &self.reserve);
        shown.finish_non_exhaustive()
    }
}

/// A WIT-SVID with the key that its holder proves with.
#[derive(Clone)]
pub struct FetchedWit {
    /// The subject.
    pub id: SpiffeId,
    /// Compact serialization.
    pub token: String,
    /// Of the key in the token.
    pub key: Arc<PrivateKey>,
    /// What it is for; may be empty.
    pub hint: String,
    /// The registration it comes from.
    pub entry_id: String,
}

impl fmt::Debug for FetchedWit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("FetchedWit");
        let shown = shown.field("id", &self.id).field("hint", &self.hint);
        shown.field("entry_id", &self.entry_id).finish_non_exhaustive()
    }
}

/// WIT-SVIDs that can be had now.
#[derive(Clone, Debug)]
pub struct FetchedWits {
    /// In the order of the identities.
    pub svids: Vec<FetchedWit>,
    /// When to ask again, without a reason from elsewhere; a time that has passed is "soon".
    pub again_at: UnixTime,
}

/// Where identities come from.
#[async_trait]
pub trait IdentitySource: Send + Sync + 'static {
    /// What `selectors` are entitled to; changes whenever that changes.
    fn view(&self, selectors: &SelectorSet) -> watch::Receiver<Arc<WorkloadView>>;

    /// Somebody with these selectors asks for X509-SVIDs. A source that has some of them made only then has them made now; views say so
    /// from then on.
    fn ask_for_x509(&self, _selectors: &SelectorSet) {}

    /// JWT-SVIDs for `audience`: for `id`, or for every identity of `selectors`.
    async fn fetch_jwt(
        &self,
        selectors: &SelectorSet,
        audience: &[String],
        id: Option<&SpiffeId>,
    ) -> Result<Vec<FetchedJwt>, SourceError>;

    /// Whether WIT-SVIDs (incubating) can be had at all; `None` while nobody knows. Never, unless the source says otherwise.
    fn has_wit(&self) -> Option<bool> {
        Some(false)
    }

    /// WIT-SVIDs for `id`, or for every identity of `selectors`: those that can be had, at least one.
    async fn fetch_wit(
        &self,
        _selectors: &SelectorSet,
        _id: Option<&SpiffeId>,
    ) -> Result<FetchedWits, SourceError> {
        Err(SourceError::Unsupported)
    }

    /// An SVID leaves now, in this moment: a source that keeps a record notes it, and does not have anybody wait for that.
    fn handed_out(&self, _handed: &HandOut<'_>) {}

    /// Somebody was told that there is no identity for him: a source that keeps a record notes it, likewise.
    fn refused(&self, _way: Way, _to: Party<'_>) {}

    /// The time, if it is known.
    fn now(&self) -> Option<UnixTime>;

    /// What tokens are validated with for a caller with `selectors`.
    fn validation_bundles(&self, selectors: &SelectorSet) -> BundleSet;

    /// Whether the source serves at all, for gRPC health. Always, unless it says otherwise.
    fn ready(&self) -> watch::Receiver<bool> {
        watch::channel(true).1
    }
}

/// Why a source gives no token.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The caller has no such identity.
    #[error("no identity issued")]
    NoIdentity,
    /// Later perhaps; the text is for the log.
    #[error("not available: {0}")]
    Unavailable(String),
    /// There is nothing of the kind here.
    #[error("not supported")]
    Unsupported,
    /// The request can never succeed; the text is for the caller.
    #[error("{0}")]
    InvalidArgument(String),
}

/// Finds the selectors of a process.
#[async_trait]
pub trait Attestor: Send + Sync + 'static {
    /// Looks at `process`.
    async fn attest(&self, process: &Arc<PinnedProcess>) -> Result<Attested, AttestError>;
}

/// What an attestor found.
#[derive(Clone, Debug)]
pub struct Attested {
    /// All that were seen.
    pub selectors: SelectorSet,
    /// What could not be looked at, and why. For the log.
    pub left_out: Vec<String>,
    /// Whether some of that may be found another time: what is here holds for a while only.
    pub incomplete: bool,
    /// Cancelled when another look would look for more than this one did.
    pub outdated: CancellationToken,
}

impl Attested {
    /// All there is to find.
    pub fn complete(selectors: SelectorSet) -> Self {
        Self {
            selectors,
            left_out: Vec::new(),
            incomplete: false,
            outdated: CancellationToken::new(),
        }
    }
}

/// Why a process has no selectors. For the log, never for the caller.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct AttestError {
    /// What failed.
    pub reason: String,
}
