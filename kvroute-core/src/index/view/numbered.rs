//! Events that are numbered one by one instead of batch by batch, as TensorRT-LLM's are: so lost ones are noticed.

use super::View;
use crate::event::NumberedEvent;
use crate::index::{ApplyReport, BlockIndex};

impl View {
    /// Applies the events of one poll that are of this pod's rank and of the attention window `window` (`None`: of any).
    /// A number that is not the next one means that events were lost, or that the engine restarted; either way
    /// removals may be among what is not here, so the view is dropped first.
    pub(in crate::index) fn apply_numbered(
        &mut self,
        index: &BlockIndex,
        events: &[NumberedEvent],
        window: Option<u64>,
    ) -> ApplyReport {
        let mut sum = ApplyReport::default();
        for event in events {
            if !self.is_ours(&event.batch) {
                sum.add_report(self.refuse_rank());
                continue;
            }
            if let (Some(last), Some(id)) = (self.last_event, event.event_id)
                && id != last.wrapping_add(1)
            {
                self.lose_track(index);
                if id > last {
                    self.counters.gaps += 1;
                    self.degraded = true;
                } else {
                    self.counters.restarts += 1;
                    // A start that was missed in part.
                    self.degraded = id > 0;
                }
            }
            // Behind one without a number the next one's is not known; that it was left out is counted.
            self.last_event = event.event_id;
            if window.is_some() && event.window_size.is_some() && event.window_size != window {
                continue;
            }
            let report = self.apply_events(index, &event.batch);
            self.counters.count_batch(&report);
            sum.add_report(report);
        }
        sum
    }
}
