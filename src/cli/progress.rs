//! Progress for people on a terminal, for logs, and for programs.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::json::json_line;
use super::lines::{self, Colour};
use super::text;
use crate::image::Digest;
use crate::progress::{Event, Phase, Reporter};

/// How often a log gets a line while a stage goes on.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How often a program gets one.
const JSON_EVERY: Duration = Duration::from_millis(500);
/// How often a terminal is drawn, per second.
const DRAWS: u8 = 10;
/// The version of the JSON lines.
const VERSION: u32 = 1;

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Resolving => "resolving",
        Phase::Carrying => "carrying",
        Phase::Syncing => "syncing",
        Phase::Verifying => "verifying",
        Phase::Protecting => "making recovery data",
        Phase::Recovering => "recovering",
        Phase::Decoding => "decoding",
        Phase::Sending => "sending",
        Phase::Unpacking => "unpacking",
    }
}

/// The name that fits before a bar: at most ten letters.
fn title(phase: Phase) -> &'static str {
    if phase == Phase::Protecting { "protecting" } else { name(phase) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How far a stage is.
#[derive(Debug)]
struct Stage {
    phase: Phase,
    total: u64,
    done: u64,
    began: Instant,
    told: Instant,
}

impl Stage {
    fn new(phase: Phase, total: u64) -> Self {
        let now = Instant::now();
        Self { phase, total, done: 0, began: now, told: now }
    }

    /// Bytes in a second, so far.
    fn rate(&self) -> u64 {
        (self.done as f64 / self.began.elapsed().as_secs_f64().max(0.001)) as u64
    }

    fn left(&self) -> Option<Duration> {
        let (rate, left) = (self.rate(), self.total.saturating_sub(self.done));
        (rate > 0 && left > 0).then(|| Duration::from_secs(left / rate))
    }

    /// Whether it is time to tell again.
    fn due(&mut self, every: Duration) -> bool {
        let due = self.told.elapsed() >= every;
        if due {
            self.told = Instant::now();
        }
        due
    }
}

/// The stages that go on; sending and unpacking go on at the same time.
#[derive(Debug, Default)]
struct Stages(Vec<Stage>);

impl Stages {
    fn begin(&mut self, phase: Phase, total: u64) {
        self.end(phase);
        self.0.push(Stage::new(phase, total));
    }

    fn end(&mut self, phase: Phase) -> Option<Stage> {
        let at = self.0.iter().position(|stage| stage.phase == phase)?;
        Some(self.0.remove(at))
    }

    /// Adds bytes to the newest stage that takes the item; returns it when it is time to tell.
    fn advance(&mut self, item: &str, bytes: u64, every: Duration) -> Option<&Stage> {
        let stage = self.0.iter_mut().rev().find(|stage| stage.phase.takes(item))?;
        stage.done += bytes;
        stage.due(every).then_some(stage)
    }
}

/// Lines for a log: each stage's beginning and end, and now and then how far it is.
#[derive(Debug, Default)]
pub(super) struct Plain(Mutex<Stages>);

impl Reporter for Plain {
    fn report(&self, event: Event<'_>) {
        let mut stages = lock(&self.0);
        let line = match event {
            Event::Phase { phase, bytes, items } => {
                stages.begin(phase, bytes);
                match (bytes, items) {
                    (0, 0) => format!("{}...", name(phase)),
                    (0, items) => format!("{} {}", name(phase), text::count(items, "image")),
                    (bytes, items) => {
                        format!("{} {}, {}", name(phase), text::count(items, "blob"), text::size(bytes))
                    }
                }
            }
            Event::Advanced { item, bytes } => match stages.advance(item, bytes, LINE_EVERY) {
                Some(stage) => {
                    let left = stage.left().map(|left| format!(", {} left", text::duration(left)));
                    format!(
                        "{} {} of {}, {}/s{}",
                        name(stage.phase),
                        text::size(stage.done),
                        text::size(stage.total),
                        text::size(stage.rate()),
                        left.unwrap_or_default()
                    )
                }
                None => return,
            },
            Event::PhaseEnded { phase } => match stages.end(phase) {
                Some(stage) if stage.done > 0 => {
                    let time = text::duration(stage.began.elapsed());
                    format!("{} done: {} in {time}", name(phase), text::size(stage.done))
                }
                _ => return,
            },
            Event::Warning(text) => format!("warning: {}", text.escape_debug()),
            Event::Started { .. } | Event::Finished { .. } | Event::Skipped { .. } => return,
        };
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(io::stderr().lock(), "{line}");
    }
}

/// JSON lines on standard output.
#[derive(Debug, Default)]
pub(super) struct Lines(Mutex<Stages>);

impl Reporter for Lines {
    fn report(&self, event: Event<'_>) {
        let mut stages = lock(&self.0);
        let line: Value = match event {
            Event::Phase { phase, bytes, items } => {
                stages.begin(phase, bytes);
                json!({ "event": "phase", "version": VERSION, "phase": name(phase), "bytes": bytes, "items": items })
            }
            Event::Started { item, bytes } => json!({ "event": "started", "item": item, "bytes": bytes }),
            Event::Advanced { item, bytes } => match stages.advance(item, bytes, JSON_EVERY) {
                Some(stage) => json!({
                    "event": "progress",
                    "phase": name(stage.phase),
                    "done": stage.done,
                    "bytes": stage.total,
                    "bytesPerSecond": stage.rate(),
                    "secondsLeft": stage.left().map(|left| left.as_secs()),
                }),
                None => return,
            },
            Event::Finished { item } => json!({ "event": "finished", "item": item }),
            Event::Skipped { item, bytes } => json!({ "event": "skipped", "item": item, "bytes": bytes }),
            Event::PhaseEnded { phase } => {
                let done = stages.end(phase).map(|stage| stage.done);
                json!({ "event": "phase-ended", "phase": name(phase), "done": done })
            }
            Event::Warning(text) => json!({ "event": "warning", "text": text }),
        };
        // The work goes on when nobody listens any more.
        let _ = json_line(&line).map(|line| io::stdout().lock().write_all(&line));
    }
}

/// An item by its first letters, its digest by those that tell it from others.
fn short(item: &str) -> String {
    let word = |word: &str| match word.parse::<Digest>() {
        Ok(digest) => digest.short(),
        Err(_) => text::one_line(word).into_owned(),
    };
    item.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Bars on a terminal: one for each stage, one for each blob that is worked on.
#[derive(Debug)]
pub(super) struct Bars {
    screen: MultiProgress,
    colour: Colour,
    state: Mutex<BarState>,
}

#[derive(Debug, Default)]
struct BarState {
    stages: Vec<(Phase, ProgressBar)>,
    items: BTreeMap<String, ProgressBar>,
}

impl Bars {
    pub(super) fn new(colour: Colour) -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(DRAWS);
        Self { screen: MultiProgress::with_draw_target(target), colour, state: Mutex::default() }
    }

    fn bar(&self, bytes: u64, template: &str, message: String) -> ProgressBar {
        let bar = self.screen.add(ProgressBar::new(bytes));
        // A template that does not parse would be a mistake of ours; the default still shows something.
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.set_message(message);
        bar
    }
}

impl Reporter for Bars {
    fn report(&self, event: Event<'_>) {
        let mut state = lock(&self.state);
        match event {
            Event::Phase { phase, bytes, .. } => {
                let template = if bytes > 0 {
                    "{msg:>10} {wide_bar} {decimal_bytes:>9} of {decimal_total_bytes:9} {decimal_bytes_per_sec:>11} {eta:>4}"
                } else {
                    "{msg:>10} {spinner}"
                };
                state.stages.push((phase, self.bar(bytes, template, title(phase).to_owned())));
            }
            Event::Started { item, bytes } => {
                let template = "           {bar:20.dim} {decimal_bytes:>9} {wide_msg:.dim}";
                state.items.insert(item.to_owned(), self.bar(bytes, template, short(item)));
            }
            Event::Advanced { item, bytes } => {
                if let Some(bar) = state.items.get(item) {
                    bar.inc(bytes);
                }
                if let Some((_, bar)) = state.stages.iter().rev().find(|(phase, _)| phase.takes(item)) {
                    bar.inc(bytes);
                }
            }
            Event::Finished { item } => {
                if let Some(bar) = state.items.remove(item) {
                    bar.finish_and_clear();
                }
            }
            Event::PhaseEnded { phase } => {
                if let Some(at) = state.stages.iter().position(|(p, _)| *p == phase) {
                    state.stages.remove(at).1.finish_and_clear();
                }
            }
            Event::Warning(text) => {
                // A terminal that is gone has nobody to warn.
                let line = format!("warning: {}", text.escape_debug());
                let _ = self.screen.println(lines::dressed(&line, self.colour));
            }
            Event::Skipped { .. } => {}
        }
    }
}
