//! The models that are served: opened when they are first asked for, closed when nobody asks for them any more.

use crate::error::{ApiError, ApiResult};
use crate::metrics::{Counted, Metrics};
use bitnet::constraint::Grammars;
use bitnet::{Engine, EngineOptions, Model};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Mutex, Semaphore};

/// How a model is opened.
pub type Opener = Arc<dyn Fn() -> bitnet::Result<Model> + Send + Sync>;

/// A model by the name that clients give.
#[derive(Clone)]
pub struct ModelSource {
    /// The name.
    pub name: String,
    /// Opens it. Called on a thread that may block, and again after the model was closed.
    pub open: Opener,
}

impl std::fmt::Debug for ModelSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ModelSource").field(&self.name).finish()
    }
}

/// How long models stay open.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelLimits {
    /// Bytes of weights that may be open together: a model that is asked for closes the one that was used longest ago, if nobody
    /// uses that now. A single model may be larger. No limit if `None`.
    pub weight_bytes: Option<u64>,
    /// After how long without a request a model is closed; never if `None`.
    pub idle: Option<Duration>,
}

/// An open model and the engine that runs its texts.
pub(crate) struct Served {
    pub(crate) name: String,
    pub(crate) engine: Engine,
    /// One request for vectors at a time: each takes all threads.
    pub(crate) embedding: Semaphore,
    /// What the monitors know of the engine.
    pub(crate) counted: Counted,
    metrics: Arc<Metrics>,
    grammars: OnceLock<Grammars>,
}

impl Drop for Served {
    fn drop(&mut self) {
        Arc::clone(&self.metrics).closed(self);
    }
}

impl Served {
    pub(crate) fn model(&self) -> &Model {
        self.engine.model()
    }

    /// The grammars of the model; made when they are first used, which takes a while.
    ///
    /// # Errors
    /// As [`Grammars::new`].
    pub(crate) fn grammars(&self) -> bitnet::Result<&Grammars> {
        match self.grammars.get() {
            Some(grammars) => Ok(grammars),
            None => {
                let grammars = Grammars::new(self.model())?;
                Ok(self.grammars.get_or_init(|| grammars))
            }
        }
    }

    fn is_idle(&self) -> bool {
        let gauges = self.engine.gauges();
        gauges.running == 0 && gauges.waiting == 0
    }
}

struct Slot {
    source: ModelSource,
    /// Locked while it is being opened.
    open: Arc<Mutex<Option<Arc<Served>>>>,
    /// When it was last asked for, in milliseconds since the server began.
    used: AtomicU64,
    /// Milliseconds without a request after which it is closed; [`FOREVER`] for never.
    keep: AtomicU64,
}

/// More milliseconds than there are.
const FOREVER: u64 = u64::MAX;

/// A time in milliseconds, without end if there is none.
fn milliseconds(time: Option<Duration>) -> u64 {
    time.and_then(|time| u64::try_from(time.as_millis()).ok())
        .unwrap_or(FOREVER)
}

/// All models.
pub(crate) struct Models {
    slots: Vec<Slot>,
    options: EngineOptions,
    limits: ModelLimits,
    metrics: Arc<Metrics>,
    begun: Instant,
    /// When the server began, in seconds since 1970.
    pub(crate) created: u64,
}

impl Models {
    /// The models of `sources`; none is opened yet.
    ///
    /// # Errors
    /// If there is none, or two have one name.
    pub(crate) fn new(
        sources: Vec<ModelSource>,
        options: EngineOptions,
        limits: ModelLimits,
        metrics: Arc<Metrics>,
    ) -> bitnet::Result<Self> {
        let refused = |found: String| bitnet::Error::Argument {
            what: "models",
            expected: "at least one, each with a name of its own".into(),
            found,
        };
        if sources.is_empty() {
            return Err(refused("none".into()));
        }
        for (index, source) in sources.iter().enumerate() {
            if sources[..index]
                .iter()
                .any(|other| other.name == source.name)
            {
                return Err(refused(format!("two named {:?}", source.name)));
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Self {
            slots: sources
                .into_iter()
                .map(|source| Slot {
                    source,
                    open: Arc::default(),
                    used: AtomicU64::new(0),
                    keep: AtomicU64::new(milliseconds(limits.idle)),
                })
                .collect(),
            options,
            limits,
            metrics,
            begun: Instant::now(),
            created: now.map_or(0, |since| since.as_secs()),
        })
    }

    /// The names, in the order in which they were given.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().map(|slot| slot.source.name.as_str())
    }

    /// Whether a model has that name.
    ///
    /// # Errors
    /// If none has.
    pub(crate) fn check(&self, name: &str) -> ApiResult<()> {
        self.slot(Some(name)).map(|_| ())
    }

    /// The model of that name, or the first one; opened if it is not.
    ///
    /// # Errors
    /// If there is no such model, or it cannot be opened.
    pub(crate) async fn get(&self, name: Option<&str>) -> ApiResult<Arc<Served>> {
        let slot = self.slot(name)?;
        let now = self.begun.elapsed().as_millis() as u64;
        slot.used.store(now, Ordering::Relaxed);
        let mut open = Arc::clone(&slot.open).lock_owned().await;
        if let Some(served) = open.as_ref() {
            return Ok(Arc::clone(served));
        }
        let opening = open_source(
            slot.source.clone(),
            self.options.clone(),
            Arc::clone(&self.metrics),
        );
        // A task of its own: the next one who asks finds it open, if this one goes away meanwhile.
        let opening = tokio::spawn(async move {
            let served = Arc::new(opening.await?);
            *open = Some(Arc::clone(&served));
            Ok(served)
        });
        let served = opening
            .await
            .unwrap_or_else(|error| Err(ApiError::internal(error.to_string())))?;
        self.make_room(&slot.source.name).await;
        Ok(served)
    }

    /// The models that are open now.
    pub(crate) async fn opened(&self) -> Vec<Arc<Served>> {
        let mut opened = Vec::new();
        for slot in &self.slots {
            // One that is being opened is not open.
            if let Ok(open) = slot.open.try_lock() {
                opened.extend(open.clone());
            }
        }
        opened
    }

    /// Closes models that nobody has asked for in a while.
    pub(crate) async fn close_idle(&self) {
        for slot in &self.slots {
            if self.left(slot) == 0 {
                slot.close().await;
            }
        }
    }

    /// Sets how long a model stays open without a request; without end if `None`.
    ///
    /// # Errors
    /// If there is no such model.
    pub(crate) fn keep(&self, name: &str, time: Option<Duration>) -> ApiResult<()> {
        let slot = self.slot(Some(name))?;
        slot.keep.store(milliseconds(time), Ordering::Relaxed);
        Ok(())
    }

    /// The time after which a model is closed if nobody asks for it; `None` if it stays open.
    pub(crate) fn closes_in(&self, name: &str) -> Option<Duration> {
        let left = self.left(self.slot(Some(name)).ok()?);
        (left != FOREVER).then(|| Duration::from_millis(left))
    }

    /// Milliseconds until a model is closed if nobody asks for it.
    fn left(&self, slot: &Slot) -> u64 {
        let now = self.begun.elapsed().as_millis() as u64;
        let unused = now.saturating_sub(slot.used.load(Ordering::Relaxed));
        match slot.keep.load(Ordering::Relaxed) {
            FOREVER => FOREVER,
            keep => keep.saturating_sub(unused),
        }
    }

    fn slot(&self, name: Option<&str>) -> ApiResult<&Slot> {
        let found = match name {
            None => self.slots.first(),
            Some(name) => self.slots.iter().find(|slot| slot.source.name == name),
        };
        found.ok_or_else(|| {
            let names: Vec<_> = self.names().collect();
            ApiError::model_not_found(name.unwrap_or_default(), &names.join(", "))
        })
    }

    /// Closes models that were used longest ago while there are too many bytes, `keep` never.
    async fn make_room(&self, keep: &str) {
        let Some(limit) = self.limits.weight_bytes else {
            return;
        };
        let mut slots: Vec<_> = self.slots.iter().collect();
        slots.sort_by_key(|slot| slot.used.load(Ordering::Relaxed));
        for slot in slots {
            let opened = self.opened().await;
            let bytes: u64 = opened.iter().map(|o| o.model().weight_bytes()).sum();
            drop(opened);
            if bytes <= limit {
                return;
            }
            if slot.source.name != keep {
                slot.close().await;
            }
        }
    }
}

async fn open_source(
    source: ModelSource,
    options: EngineOptions,
    metrics: Arc<Metrics>,
) -> ApiResult<Served> {
    let begin = Instant::now();
    let open = Arc::clone(&source.open);
    let opening = tokio::task::spawn_blocking(move || Engine::new(&open()?, options));
    let failed = |error: &dyn std::fmt::Display| {
        let name = &source.name;
        ApiError::unavailable(format!("model {name}: it cannot be opened: {error}"))
    };
    let engine = opening
        .await
        .map_err(|error| failed(&error))?
        .map_err(|error| failed(&error))?;
    tracing::info!(
        model = source.name,
        seconds = begin.elapsed().as_secs_f64(),
        "opened"
    );
    Ok(Served {
        name: source.name,
        engine,
        embedding: Semaphore::new(1),
        counted: Counted::default(),
        metrics,
        grammars: OnceLock::new(),
    })
}

impl Slot {
    /// Closes the model if nobody uses it.
    async fn close(&self) {
        let Ok(mut open) = self.open.try_lock() else {
            return;
        };
        let unused = open
            .as_ref()
            .is_some_and(|served| Arc::strong_count(served) == 1 && served.is_idle());
        if unused {
            *open = None;
            tracing::info!(model = self.source.name, "closed");
        }
    }
}
