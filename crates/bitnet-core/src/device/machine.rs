//! What the machine is made of: processor, instruction sets, cores, caches, memory.
//!
//! Everything is asked of the processor or the operating system; what neither tells is `None`, never guessed.

use serde::Serialize;

/// The machine this program runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Operating system, as Rust names it.
    pub os: &'static str,
    /// Architecture, as Rust names it.
    pub arch: &'static str,
    /// Its processor.
    pub processor: Processor,
    /// Its memory.
    pub memory: Option<Memory>,
}

/// A processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Processor {
    /// Who made it, such as `GenuineIntel`.
    pub vendor: Option<String>,
    /// What it calls itself.
    pub brand: Option<String>,
    /// Instruction-set extensions that kernels here use or may come to use.
    pub features: Vec<Feature>,
    /// Cores, not counting hyper-threads.
    pub physical_cores: Option<usize>,
    /// Threads that may run at once: what the operating system and its quotas grant this process.
    pub threads: usize,
    /// Its caches.
    pub caches: Caches,
}

/// An instruction-set extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Feature {
    /// Its usual name, such as `avx2`.
    pub name: &'static str,
    /// Whether the processor has it.
    pub available: bool,
}

/// Bytes of each cache that the first core uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Caches {
    /// First level, data.
    pub l1d: Option<usize>,
    /// Second level.
    pub l2: Option<usize>,
    /// Third level.
    pub l3: Option<usize>,
}

/// Bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Installed.
    pub total: u64,
    /// Free or freed on demand.
    pub available: u64,
    /// What a control group (a container) allows, where that is less than `total`.
    pub limit: Option<u64>,
}

impl Machine {
    /// Looks at the machine.
    pub fn detect() -> Self {
        Self {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            processor: Processor::detect(),
            memory: Memory::detect(),
        }
    }
}

impl Processor {
    /// Looks at the processor.
    pub fn detect() -> Self {
        let (vendor, brand) = name();
        Self {
            vendor,
            brand,
            features: features(),
            physical_cores: physical_cores(),
            threads: threads(),
            caches: Caches::detect(),
        }
    }
}

impl Processor {
    /// Cores for this process: no more than it may run threads at once.
    pub(crate) fn cores(&self) -> usize {
        let cores = self.physical_cores.unwrap_or(self.threads);
        cores.min(self.threads).max(1)
    }
}

impl Memory {
    /// Asks the operating system; `None` where there is none to ask.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn detect() -> Option<Self> {
        let memory = sysinfo::MemoryRefreshKind::nothing().with_ram();
        let system = sysinfo::System::new_with_specifics(
            sysinfo::RefreshKind::nothing().with_memory(memory),
        );
        let total = system.total_memory();
        let limit = system.cgroup_limits().map(|limits| limits.total_memory);
        (total > 0).then(|| Self {
            total,
            available: system.available_memory(),
            limit: limit.filter(|limit| *limit > 0 && *limit < total),
        })
    }

    /// Asks the operating system; `None` where there is none to ask.
    #[cfg(target_arch = "wasm32")]
    pub fn detect() -> Option<Self> {
        None
    }
}

impl Caches {
    fn detect() -> Self {
        let caches = Self::default();
        #[cfg(target_os = "linux")]
        let caches = caches.or_sysfs();
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        let caches = caches.or_cpuid();
        caches
    }

    /// Notes a data or unified cache of a level, unless that level is known.
    #[cfg(any(target_os = "linux", target_arch = "x86", target_arch = "x86_64"))]
    fn fill(&mut self, level: u8, bytes: usize) {
        let place = match level {
            1 => &mut self.l1d,
            2 => &mut self.l2,
            3 => &mut self.l3,
            _ => return,
        };
        if bytes > 0 {
            place.get_or_insert(bytes);
        }
    }

    #[cfg(target_os = "linux")]
    fn or_sysfs(mut self) -> Self {
        let read = |index: usize, file: &str| {
            let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{file}");
            std::fs::read_to_string(path).ok()
        };
        for index in 0..8 {
            let (Some(kind), Some(level), Some(size)) = (
                read(index, "type"),
                read(index, "level"),
                read(index, "size"),
            ) else {
                continue;
            };
            if let (Ok(level), Some(bytes)) = (level.trim().parse(), sysfs_size(size.trim()))
                && kind.trim() != "Instruction"
            {
                self.fill(level, bytes);
            }
        }
        self
    }

    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    fn or_cpuid(mut self) -> Self {
        let cpuid = raw_cpuid::CpuId::new();
        for cache in cpuid.get_cache_parameters().into_iter().flatten() {
            if cache.cache_type() == raw_cpuid::CacheType::Instruction {
                continue;
            }
            let bytes = [
                cache.associativity(),
                cache.physical_line_partitions(),
                cache.coherency_line_size(),
                cache.sets(),
            ]
            .into_iter()
            .try_fold(1usize, usize::checked_mul);
            self.fill(cache.level(), bytes.unwrap_or(0));
        }
        self
    }
}

/// `32K`, `1024K`, `16M` in bytes.
#[cfg(target_os = "linux")]
fn sysfs_size(text: &str) -> Option<usize> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor = match unit {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(factor)
}

/// Threads that may run at once.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(not(target_arch = "wasm32"))]
fn physical_cores() -> Option<usize> {
    sysinfo::System::physical_core_count()
}

#[cfg(target_arch = "wasm32")]
fn physical_cores() -> Option<usize> {
    None
}

/// Vendor and brand.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
pub(crate) fn name() -> (Option<String>, Option<String>) {
    let cpuid = raw_cpuid::CpuId::new();
    let vendor = cpuid.get_vendor_info();
    let brand = cpuid.get_processor_brand_string();
    (
        vendor.and_then(|vendor| some_text(vendor.as_str())),
        brand.and_then(|brand| some_text(brand.as_str())),
    )
}

/// Vendor and brand.
#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "wasm32")))]
pub(crate) fn name() -> (Option<String>, Option<String>) {
    let cpu = sysinfo::CpuRefreshKind::nothing();
    let system = sysinfo::System::new_with_specifics(sysinfo::RefreshKind::nothing().with_cpu(cpu));
    match system.cpus().first() {
        Some(cpu) => (some_text(cpu.vendor_id()), some_text(cpu.brand())),
        None => (None, None),
    }
}

/// Vendor and brand.
#[cfg(target_arch = "wasm32")]
pub(crate) fn name() -> (Option<String>, Option<String>) {
    (None, None)
}

#[cfg(not(target_arch = "wasm32"))]
fn some_text(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// The extensions of this architecture.
#[cfg(target_arch = "x86_64")]
pub(crate) fn features() -> Vec<Feature> {
    macro_rules! detect {
        ($($name:tt)*) => {
            vec![$(Feature { name: $name, available: std::arch::is_x86_feature_detected!($name) }),*]
        };
    }
    let mut features = detect!(
        "ssse3" "sse4.1" "avx" "f16c" "fma" "avx2" "avxvnni"
        "avx512f" "avx512bw" "avx512vl" "avx512vnni" "avx512vbmi"
    );
    // The standard library has no stable name for these.
    let extended = raw_cpuid::CpuId::new().get_extended_feature_info();
    for (name, has) in [
        (
            "amx-tile",
            extended.as_ref().is_some_and(|f| f.has_amx_tile()),
        ),
        (
            "amx-int8",
            extended.as_ref().is_some_and(|f| f.has_amx_int8()),
        ),
    ] {
        features.push(Feature {
            name,
            available: has,
        });
    }
    features
}

/// The extensions of this architecture.
#[cfg(target_arch = "aarch64")]
pub(crate) fn features() -> Vec<Feature> {
    macro_rules! detect {
        ($($name:tt)*) => {
            vec![$(Feature { name: $name, available: std::arch::is_aarch64_feature_detected!($name) }),*]
        };
    }
    detect!("neon" "fp16" "dotprod" "i8mm" "sve")
}

/// The extensions of this architecture.
#[cfg(target_arch = "wasm32")]
pub(crate) fn features() -> Vec<Feature> {
    vec![Feature {
        name: "simd128",
        available: cfg!(target_feature = "simd128"),
    }]
}

/// The extensions of this architecture.
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "wasm32"
)))]
pub(crate) fn features() -> Vec<Feature> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_plausible() {
        let machine = Machine::detect();
        assert!(machine.processor.threads >= 1);
        assert!(machine.processor.physical_cores.is_none_or(|n| n >= 1));
        let caches = machine.processor.caches;
        for (small, large) in [(caches.l1d, caches.l2), (caches.l2, caches.l3)] {
            if let (Some(small), Some(large)) = (small, large) {
                assert!(small <= large, "{caches:?}");
            }
        }
        let memory = machine.memory.expect("an operating system");
        assert!(memory.total >= 1 << 20 && memory.available <= memory.total);
        assert!(memory.limit.is_none_or(|limit| limit < memory.total));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn cache_sizes_are_read_with_their_unit() {
        assert_eq!(sysfs_size("32K"), Some(32 << 10));
        assert_eq!(sysfs_size("16M"), Some(16 << 20));
        assert_eq!(sysfs_size("512"), Some(512));
        for bad in ["", "K", "-1K", "32k", "99999999999999999999K"] {
            assert_eq!(sysfs_size(bad), None, "{bad}");
        }
    }
}
