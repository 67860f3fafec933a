//! The arguments that name a model and say how it runs, and the way from them to an open model.

use crate::failure::Usage;
use crate::interrupt::Interrupt;
use crate::number;
use crate::progress::{Downloads, Steps};
use bitnet::chat::TemplateChoice;
use bitnet::file::{Bytes, ModelFile};
use bitnet::hub::{self, HubOptions};
use bitnet::{
    Activations, AdapterChoice, Device, I2sLayout, KvType, LmHeadMode, Model, ModelOptions,
};
use clap::{Args, ValueEnum};
use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Which model, and how it runs.
#[derive(Args, Default)]
pub(crate) struct ModelArguments {
    /// A path, an address, hf:owner/repo[/file] or a short name; without it, the built-in demo model
    #[arg(short, long, value_name = "MODEL")]
    pub(crate) model: Option<OsString>,

    #[command(flatten)]
    runs: PlaceArguments,
}

/// How a model runs, whichever it is.
#[derive(Args, Default)]
pub(crate) struct PlaceArguments {
    /// Where to run: auto, cpu, wgpu, metal or mlx (`bitnet devices` lists what there is, and --explain says what auto is)
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: DeviceArgument,

    /// Run on this GPU: a part of its name, or its number in the list of `bitnet devices`
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,

    /// Run on a GPU that may be software on the processor, for tests
    #[arg(long)]
    software_adapter: bool,

    /// Read the model's files into memory instead of mapping them: needs memory for all of them, and does not end if another program truncates one
    #[arg(long)]
    no_mmap: bool,

    /// The most memory that copied and repacked weights, activations, keys and values may take together, such as 500MB or 4GiB
    #[arg(long, value_name = "BYTES", value_parser = number::bytes)]
    memory_limit: Option<usize>,

    /// Activations between the layers: int8 as ternary models are trained; int8-groups, with a scale for each 128 of them, or f32, both slow, to judge that rounding and to compare implementations
    #[arg(long, value_enum, default_value_t)]
    activations: ActivationsArgument,

    /// Keys and values of a context: f16, f32 or int8; without it, f32 with MLX, f16 elsewhere
    #[arg(long, value_name = "TYPE", value_enum)]
    kv: Option<KvArgument>,

    /// Byte order of I2_S tensors, which a file does not tell: a is usual, b is written on ARM by some builds of bitnet.cpp
    #[arg(long, value_enum, default_value_t)]
    i2s_layout: LayoutArgument,

    /// Tokens of context; without it, the model's own, at most 4096
    #[arg(short, long, value_name = "TOKENS", value_parser = number::within(1..=u32::MAX as usize))]
    context: Option<usize>,
}

/// A device, or none for the one that is expected to be fastest.
#[derive(Clone, Copy, Default)]
struct DeviceArgument(Option<Device>);

impl std::str::FromStr for DeviceArgument {
    type Err = bitnet_core::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(Self(match name {
            "auto" => None,
            name => Some(name.parse()?),
        }))
    }
}

/// How the likeliest tokens are found.
#[derive(Args, Default)]
pub(crate) struct HeadArgument {
    /// Find the likeliest tokens from logits of the full vocabulary, from those that screening by a small copy of the head leaves, or as is faster; the text is the same
    #[arg(long = "head", value_name = "HEAD", value_enum, default_value_t)]
    mode: HeadChoice,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum HeadChoice {
    Full,
    Screened,
    #[default]
    Auto,
}

impl HeadArgument {
    pub(crate) fn mode(&self) -> LmHeadMode {
        match self.mode {
            HeadChoice::Full => LmHeadMode::Full,
            HeadChoice::Screened => LmHeadMode::Screened,
            HeadChoice::Auto => LmHeadMode::Auto,
        }
    }
}

/// How many threads compute.
#[derive(Args, Default)]
pub(crate) struct ThreadsArgument {
    /// Threads; without it, one for each core
    #[arg(short, long, value_name = "THREADS", value_parser = number::within(THREADS))]
    pub(crate) threads: Option<usize>,
}

/// The numbers of threads that are accepted. More than this is a slip of the hand on every machine there is, and would make systems
/// run out of threads before it said so.
pub(crate) const THREADS: RangeInclusive<usize> = 1..=4096;

#[derive(Clone, Copy, Default, ValueEnum)]
enum ActivationsArgument {
    #[default]
    Int8,
    Int8Groups,
    F32,
}

/// The type of keys and values.
#[derive(Clone, Copy, ValueEnum)]
enum KvArgument {
    F16,
    F32,
    Int8,
}

impl From<KvArgument> for KvType {
    fn from(kv: KvArgument) -> Self {
        match kv {
            KvArgument::F16 => Self::F16,
            KvArgument::F32 => Self::F32,
            KvArgument::Int8 => Self::Int8,
        }
    }
}

/// Byte order of I2_S tensors.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(crate) enum LayoutArgument {
    #[default]
    A,
    B,
}

impl From<LayoutArgument> for I2sLayout {
    fn from(layout: LayoutArgument) -> Self {
        match layout {
            LayoutArgument::A => Self::A,
            LayoutArgument::B => Self::B,
        }
    }
}

/// An open model.
pub(crate) struct Opened {
    pub(crate) model: Model,
    /// What opening took, a download not counted.
    pub(crate) time: Duration,
}

impl PlaceArguments {
    /// That logits will have the bits that every processor gives: `what` needs them.
    pub(crate) fn require_bits(&mut self, what: &str) -> anyhow::Result<()> {
        let gpu = self.device.0.is_some_and(|device| device != Device::Cpu);
        if gpu || self.adapter.is_some() || self.software_adapter {
            let why =
                format!("{what}: equal bits are promised on processors alone; use --device cpu");
            return Err(Usage(why).into());
        }
        self.device = DeviceArgument(Some(Device::Cpu));
        Ok(())
    }

    fn adapter(&self) -> anyhow::Result<AdapterChoice> {
        let choice = AdapterChoice {
            name: self.adapter.clone(),
            software: self.software_adapter,
        };
        let takes_one = matches!(self.device.0, None | Some(Device::Wgpu));
        if !takes_one && !choice.is_default() {
            let why = "--adapter and --software-adapter choose a GPU: use --device wgpu";
            return Err(Usage(why.to_owned()).into());
        }
        Ok(choice)
    }

    /// The options of a model that runs so.
    ///
    /// # Errors
    /// If they contradict each other.
    pub(crate) fn options(
        &self,
        threads: Option<usize>,
        head: LmHeadMode,
        chat_template: Option<TemplateChoice>,
    ) -> anyhow::Result<ModelOptions> {
        let now = chrono::Local::now();
        Ok(ModelOptions {
            device: self.device.0,
            adapter: self.adapter()?,
            threads,
            activations: match self.activations {
                ActivationsArgument::Int8 => Activations::Int8,
                ActivationsArgument::Int8Groups => Activations::Int8Groups,
                ActivationsArgument::F32 => Activations::F32,
            },
            kv: self.kv.map(KvType::from),
            head,
            copy: self.no_mmap,
            memory_limit: self.memory_limit,
            i2s_layout: self.i2s_layout.into(),
            context: self.context,
            chat_template,
            unix_time: Some(now.timestamp()),
            utc_offset: now.offset().local_minus_utc(),
            ..ModelOptions::default()
        })
    }
}

impl ModelArguments {
    /// [`PlaceArguments::require_bits`].
    pub(crate) fn require_bits(&mut self, what: &str) -> anyhow::Result<()> {
        self.runs.require_bits(what)
    }

    /// Opens the model, downloading it first if need be.
    pub(crate) fn open(&self, threads: Option<usize>, head: LmHeadMode) -> anyhow::Result<Opened> {
        self.open_for_chat(threads, head, None)
    }

    /// [`open`](Self::open), with a chat template in place of the model's own.
    pub(crate) fn open_for_chat(
        &self,
        threads: Option<usize>,
        head: LmHeadMode,
        chat_template: Option<TemplateChoice>,
    ) -> anyhow::Result<Opened> {
        let options = self.runs.options(threads, head, chat_template)?;
        let path = self.model.as_deref().map(resolve).transpose()?;
        let begin = Instant::now();
        let model = match path {
            Some(path) => {
                let mut steps = Steps::new("loading");
                Model::open_with(path, &options, |done, all| {
                    steps.set(done as u64, all as u64)
                })?
            }
            None => Model::demo_with(&options)?,
        };
        Ok(Opened {
            model,
            time: begin.elapsed(),
        })
    }
}

/// The file of a model, downloaded if need be, or the demo model's. Nothing is loaded.
pub(crate) fn open_file(model: Option<&OsStr>) -> anyhow::Result<ModelFile> {
    Ok(match model {
        Some(model) => ModelFile::open(&resolve(model)?)?,
        None => ModelFile::parse("demo model", Bytes::from_static(bitnet_demo::GGUF))?,
    })
}

/// The path of a model on this machine, downloading it if need be.
pub(crate) fn resolve(model: &OsStr) -> anyhow::Result<PathBuf> {
    // Addresses and short names are text; what is not can only be a path.
    let Some(model) = model.to_str() else {
        return Ok(PathBuf::from(model));
    };
    let mut options = HubOptions::from_env();
    // Watches until the model is here.
    let interrupt = hub::is_remote(model).then(Interrupt::watch).transpose()?;
    if let Some(interrupt) = &interrupt {
        options.cancel = interrupt.cancel();
    }
    Ok(hub::resolve(model, &options, &Downloads::default())?)
}
