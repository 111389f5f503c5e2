//! From a workload to its figures.

mod checkpoint;
mod checks;
mod cycles;
mod rows;
mod siblings;
mod single;
mod stop;

use std::sync::Arc;

use dormouse_guest_mem::Bytes;

use crate::figures::{Figures, Row};
use crate::lab::Lab;
use crate::twin::Twin;
use crate::workload::Workload;

/// Does the workload and measures. `other_guests` are those that only some methods need.
pub(crate) async fn measure(lab: &Arc<Lab>, workload: Workload, other_guests: bool) -> anyhow::Result<Figures> {
    match workload {
        Workload::W0 | Workload::W1 | Workload::W2 | Workload::W4 => single::measure(lab, workload, other_guests).await,
        Workload::W3 => cycles::measure(lab, other_guests).await,
        Workload::W5 => siblings::measure(lab).await,
    }
}

/// The methods that need guests of their own.
async fn other_methods(workload: Workload, ram: Bytes, wanted: bool) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for twin in Twin::ALL.into_iter().filter(|_| wanted) {
        rows.push(twin.stores(workload, ram).await?);
    }
    Ok(rows)
}
