//! A session, and the channel to its block fetcher.

use tokio::sync::{mpsc, watch};

use crate::{
    Cid,
    link::FetchedBlock,
    session::{Inquiry, Session},
};

/// A session, and the channel to its block fetcher.
pub struct ActiveSession {
    pub session: Session,
    pub out: mpsc::UnboundedSender<FetchedBlock>,
    /// Whether anything changed since the last plan.
    pub changed: bool,
    /// The block whose progress is reported.
    pub inquiry: Option<(Cid, watch::Sender<Option<Inquiry>>)>,
}

impl ActiveSession {
    /// Reports the progress of asking for a block.
    pub fn report(&mut self) {
        self.inquiry.take_if(|(_, progress)| progress.is_closed());
        let Some((cid, progress)) = &self.inquiry else { return };
        let inquiry = Some(self.session.inquiry(cid));
        progress.send_if_modified(|last| std::mem::replace(last, inquiry) != inquiry);
    }
}
