//! What the control thread looks at each second: servers whose numbers stand out, and upstreams in a panic.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::state::Keep;
use crate::upstream::outlier::Outliers;
use crate::upstream::pool::Upstream;

/// Between two looks; [`Outliers`] counts in seconds.
const LOOK: Duration = Duration::from_secs(1);

/// Looks after one upstream for ever.
pub async fn look_after(upstream: Arc<Upstream>, keep: Arc<Keep>) {
    let cells = keep.metrics.cells(keep.workers());
    let (mut outliers, mut was_panicking) = (Outliers::default(), false);
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = keep.now();
        upstream.look_for_outliers(&mut outliers, now, &cells);
        let is_panicking = upstream.roster(now).is_panicking;
        let (name, threshold) = (&upstream.config.name, upstream.config.panic_threshold);
        match (was_panicking, is_panicking) {
            (false, true) => {
                warn!(upstream = name, threshold, "so few servers are healthy that all get requests")
            }
            (true, false) => {
                info!(upstream = name, threshold, "enough servers are healthy: only those get requests")
            }
            _ => {}
        }
        was_panicking = is_panicking;
    }
}
