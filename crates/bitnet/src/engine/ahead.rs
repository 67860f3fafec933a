//! Steps that begin before the one before them has ended, on devices where a text's likeliest token can run before the host
//! knows it: while the device works on the next step, the host reads what the last one gave.

use super::batcher::Batcher;
use super::sequence::Sequence;
use crate::Error;
use crate::model::Part;
use bitnet_core::{Input, Output, OutputRequest, Pending, Top};
use web_time::Instant;

/// A step under way whose inputs are the likeliest tokens of the step before it.
pub(super) struct Ahead {
    pending: Pending<Vec<Output>>,
    /// The texts, by their arrival.
    texts: Vec<u64>,
}

impl Batcher {
    /// Begins the step after the one under way, if nothing but the next tokens of running texts will be in it.
    pub(super) fn begin_ahead(&mut self) {
        let run = self.model.run();
        let another_begins =
            !self.waiting.is_empty() && self.running.len() < self.options.max_running;
        // Texts that are about to end run no further; all others must be able to.
        let goes_on = |text: &Sequence| text.decoder.wanted() >= 2;
        let texts = self.running.iter().filter(|text| goes_on(text));
        let (count, able) = texts.fold((0, true), |(count, able), text| {
            (count + 1, able && text.can_run_ahead())
        });
        if !run.supports_lookahead()
            || another_begins
            || !able
            || count == 0
            || count > run.max_spans()
        {
            return;
        }
        let more = |text: &Sequence| self.room.of_text(text, 1) - self.room.of_text(text, 0);
        let wanted = self.running.iter().map(more).sum();
        if !self.has_room(wanted, 0) {
            return;
        }
        let (mut parts, mut texts) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for text in self.running.iter_mut().filter(|text| goes_on(text)) {
            texts.push(text.arrival());
            if let Some(state) = &mut text.state {
                parts.push(Part {
                    sequence: &mut **state,
                    input: Input::LastArgmax,
                    outputs: OutputRequest::Top {
                        rows: 1,
                        top: Top {
                            count: 1,
                            also: &[],
                        },
                    },
                });
            }
        }
        match self.model.run().forward(parts) {
            Ok(pending) => self.ahead = Some(Ahead { pending, texts }),
            // No state has changed: it runs as any other step.
            Err(error) => tracing::debug!("a step does not begin early: {error}"),
        }
    }

    /// Takes what the step gave that began early, after beginning the next one if it can. Returns whether there was one.
    pub(super) async fn absorb_ahead(&mut self) -> bool {
        let Some(Ahead { pending, texts }) = self.ahead.take() else {
            return false;
        };
        let begun = Instant::now();
        self.begin_ahead();
        let outcome = pending.await.map_err(Error::from);
        match outcome {
            Ok(outputs) => {
                self.gauges.step(texts.len());
                for (arrival, output) in texts.into_iter().zip(outputs) {
                    // Some may have ended since.
                    let mut running = self.running.iter_mut();
                    let Some(text) = running.find(|text| text.arrival() == arrival) else {
                        continue;
                    };
                    if let Err(error) = text.absorb(output, begun.elapsed()) {
                        text.fail(error);
                    }
                }
            }
            Err(error) => {
                tracing::debug!("a step that began early: {error}");
                self.ahead = None;
                for text in &mut self.running {
                    // All but the last token have run; that one runs again, and tells what is wrong.
                    let known = text.tokens.len() - 1;
                    if let Some(state) = &mut text.state {
                        state.truncate(known);
                    }
                }
            }
        }
        true
    }
}
