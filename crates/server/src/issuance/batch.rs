//! Signing many in one commit. Invariant: what is returned has been recorded, and one that is refused costs the others nothing.

use super::record::IssuanceRecord;
use super::{IssueError, Issuer, Requester};
use crate::admission::Turn;
use crate::datastore::Recorded;

impl Issuer {
    /// The answers are in the order of the orders.
    pub(super) async fn sign_all<Order, Issued>(
        &self,
        who: &Requester,
        orders: Vec<Result<Order, IssueError>>,
        turn: &Turn,
        sign: impl Fn(Order) -> Result<(Issued, IssuanceRecord), IssueError>,
    ) -> Vec<Result<Issued, IssueError>> {
        let mut signed = Vec::with_capacity(orders.len());
        for order in orders {
            signed.push(order.and_then(&sign));
            // A batch of hundreds takes tens of milliseconds of a core: let others have their turn.
            turn.pause().await;
        }
        let records = signed
            .iter()
            .flatten()
            .map(|(_, record)| record.clone())
            .collect();
        let mut written = match self.write(who, records).await {
            Ok(written) => written.into_iter(),
            Err(failed) => return signed.into_iter().map(|s| s.and(Err(failed.clone()))).collect(),
        };
        let recorded = |signed: Result<(Issued, IssuanceRecord), IssueError>| {
            let (issued, record) = signed?;
            match written.next().transpose()? {
                Some(Recorded::Yes) => Ok(issued),
                Some(Recorded::KeyTaken(_)) => Err(IssueError::KeyInUse { id: record.spiffe_id }),
                Some(Recorded::KeyUsed) => Err(IssueError::KeyNotNew { id: record.spiffe_id }),
                Some(Recorded::Enough) => {
                    let entry = record.entry_id.unwrap_or_default();
                    Err(IssueError::Enough { entry })
                }
                Some(Recorded::Gone) => Err(IssueError::Policy(GONE.to_owned())),
                None => Err(IssueError::NoAuthority),
            }
        };
        signed.into_iter().map(recorded).collect()
    }

    /// In the datastore, which may refuse, and then of what is left in the ledger: when this returns, what may leave is on the disks of both, or goes on
    /// without the ledger.
    pub(super) async fn write(
        &self,
        who: &Requester,
        records: Vec<IssuanceRecord>,
    ) -> Result<Vec<Result<Recorded, IssueError>>, IssueError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let written = self.datastore.record(records.clone()).await;
        if let Err(error) = &written {
            let error = landfast_daemon::error_chain(error);
            tracing::error!(error, "nothing is issued: the record of it cannot be written");
            metrics::counter!("landfast_server_issuance_refused_total").increment(1);
        }
        let written = written?;
        let leaving = records.iter().zip(&written);
        let leaving = leaving.filter(|(_, written)| matches!(written, Recorded::Yes));
        let leaving: Vec<_> = leaving.map(|(record, _)| record).collect();
        let mut recorded = self.recorded(who, &leaving).await.into_iter();
        let answer = |written: Recorded| match written {
            Recorded::Yes => recorded
                .next()
                .unwrap_or(Err(IssueError::NoAuthority))
                .map(|()| Recorded::Yes),
            refused => Ok(refused),
        };
        Ok(written.into_iter().map(answer).collect())
    }
}

const GONE: &str = "its node was banned or evicted, or its entry deleted, while it was signed";
