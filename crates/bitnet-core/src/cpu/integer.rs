//! Integer registers: what a ternary kernel asks of an instruction set.
//!
//! Kernels are written once over [`IntegerIsa`]; each instruction set implements it in a file of its own, and a
//! function compiled for that set instantiates them. All arithmetic is exact, so every set gives the same sums.
//!
//! That works only if everything between the function and an instruction is inlined. `#[inline(always)]` sees to it; a
//! closure handed to an array's `map` is out of its reach, so registers are never touched in one.

use super::f16::widen_f16;
use super::gemm::group_sums;

/// Base-3 digits in a byte.
pub(super) const BASE3_PLANES: usize = 5;

/// Registers of one instruction set. A value of the type is the proof that the machine has the set: its field is private,
/// and the one constructor, `enabled`, is compiled for the features of the set, so that safe code calls it only where they
/// are enabled. [`kernels!`] enables them after they were detected.
///
/// Codes are unsigned bytes of at most 3, activations signed bytes. A *dot* multiplies bytes and adds the products of
/// each four neighbours to one i32.
pub(super) trait IntegerIsa: Copy {
    /// [`WIDTH`](Self::WIDTH) bytes.
    type Bytes: Copy;
    /// [`WIDTH`](Self::WIDTH) / 4 sums in i32.
    type Sums: Copy;
    /// Sums on their way: dots that are not yet widened to i32.
    type Open: Copy;

    /// Bytes in a register: 16, 32 or 64.
    const WIDTH: usize;
    /// Dots with codes of at most 3 that may be added before [`close`](Self::close); at least 5.
    const RUN: usize;
    /// The sums of [`base3_dots`](Self::base3_dots) are this power of two too large.
    const BASE3_SHIFT: u32 = 0;

    /// The first [`WIDTH`](Self::WIDTH) bytes; there must be as many.
    fn load(self, bytes: &[u8]) -> Self::Bytes;
    /// The [`WIDTH`](Self::WIDTH) bytes from `at`.
    ///
    /// # Safety
    /// There must be as many.
    #[inline(always)]
    unsafe fn load_at(self, bytes: &[u8], at: usize) -> Self::Bytes {
        debug_assert!(at + Self::WIDTH <= bytes.len());
        // SAFETY: the caller's promise.
        self.load(unsafe { bytes.get_unchecked(at..at + Self::WIDTH) })
    }
    /// Asks for the line of the first of some bytes, if there is an instruction for that.
    #[inline(always)]
    fn prefetch(self, _bytes: &[u8]) {}
    /// Sixteen bytes from each of the first [`WIDTH`](Self::WIDTH) / 16 places.
    fn load_parts(self, parts: [&[u8; 16]; 4]) -> Self::Bytes;
    /// In every 128 bits a square of words, transposed: word `i` of register `j` becomes word `j` of register `i`.
    fn transpose(self, four: [Self::Bytes; 4]) -> [Self::Bytes; 4];
    /// Stores to the first [`WIDTH`](Self::WIDTH) bytes; there must be as many.
    fn store(self, bytes: Self::Bytes, out: &mut [u8]);
    /// The same four bytes in every i32.
    fn splat(self, four: &[i8; 4]) -> Self::Bytes;
    /// Two bits of every byte, from bit `SHIFT`.
    fn pair<const SHIFT: i32>(self, bytes: Self::Bytes) -> Self::Bytes;
    /// ⌊3·b / 256⌋ of every byte b: the leading base-3 digit.
    fn digit(self, bytes: Self::Bytes) -> Self::Bytes;
    /// 3·b modulo 256 of every byte b: the next base-3 digit moves to the front.
    fn triple(self, bytes: Self::Bytes) -> Self::Bytes;

    /// Four numbers of binary16.
    #[inline(always)]
    fn widen(self, [a, b, c, d]: [u16; 4]) -> [f32; 4] {
        [widen_f16(a), widen_f16(b), widen_f16(c), widen_f16(d)]
    }
    /// Zeros.
    fn zero(self) -> Self::Sums;
    /// Begins a run of dots whose end is [`close`](Self::close) with the same `sums`.
    fn open(self, sums: Self::Sums) -> Self::Open;
    /// Adds a dot.
    fn dot(self, open: Self::Open, codes: Self::Bytes, q: Self::Bytes) -> Self::Open;
    /// `sums` and the dots of the run.
    fn close(self, sums: Self::Sums, open: Self::Open) -> Self::Sums;
    /// In every 128 bits: the sums of these 128 bits of each of the four registers, side by side.
    fn sum_lanes(self, four: [Self::Sums; 4]) -> Self::Sums;
    /// Stores to the first [`WIDTH`](Self::WIDTH) / 4 numbers; there must be as many.
    fn store_sums(self, sums: Self::Sums, out: &mut [i32]);

    /// Adds (sum − `q_sum`)·scale to each of [`WIDTH`](Self::WIDTH) / 4 totals; there must be as many, and scales.
    #[inline(always)]
    fn add_scaled(self, totals: &mut [f32], sums: Self::Sums, q_sum: i32, scales: &[f32]) {
        let mut numbers = [0; 16];
        self.store_sums(sums, &mut numbers);
        let lanes = Self::WIDTH / 4;
        let totals = totals[..lanes].iter_mut().zip(&scales[..lanes]);
        for ((total, scale), sum) in totals.zip(numbers) {
            *total += (sum - q_sum) as f32 * scale;
        }
    }

    /// Puts the unpacked codes of one group, `[step, row, 4]` in steps of `VECTORS` registers, into the order that
    /// [`panel_sums`](Self::panel_sums) takes: once for all tokens.
    #[inline(always)]
    fn settle<const VECTORS: usize>(self, _codes: &mut [u8]) {}

    /// Σ code·q of one group, `[token][register of rows]`. `q` is `[step, token, 4]`.
    #[inline(always)]
    fn panel_sums<const VECTORS: usize, const TOKENS: usize>(
        self,
        codes: &[u8],
        q: &[i8],
    ) -> [[Self::Sums; VECTORS]; TOKENS] {
        group_sums(self, codes, q)
    }

    /// Adds the dots of five base-3 planes with five registers of `q`, times 2 to the
    /// [`BASE3_SHIFT`](Self::BASE3_SHIFT).
    #[inline(always)]
    fn base3_dots(
        self,
        sums: Self::Sums,
        bytes: Self::Bytes,
        q: [Self::Bytes; BASE3_PLANES],
    ) -> Self::Sums {
        let mut open = self.open(sums);
        let mut fractions = bytes;
        for q in q {
            open = self.dot(open, self.digit(fractions), q);
            fractions = self.triple(fractions);
        }
        self.close(sums, open)
    }
}

/// What the kernels of one instruction set are called with: functions compiled for it.
pub(super) struct IntegerKernels {
    /// Bytes in a register, as activations of [`gemv`](Self::gemv) must be arranged for.
    pub(super) width: usize,
    /// Rows in a panel of [`gemm`](Self::gemm).
    pub(super) panel: usize,
    /// Tokens in a full tile of [`gemm`](Self::gemm).
    pub(super) tile: usize,
    /// One token.
    pub(super) gemv: fn(&mut super::gemv::Gemv<'_>),
    /// One token and interleaved rows.
    pub(super) gemv_interleaved: fn(&mut super::gemv_interleaved::GemvInterleaved<'_>),
    /// Many tokens.
    pub(super) gemm: fn(&mut super::gemm::Gemm<'_>),
    /// Whether base 3 in interleaved rows is multiplied as fast as 2-bit codes: without finding its digits, 64 at a time.
    pub(super) keeps_base3: bool,
}

impl IntegerKernels {
    /// The functions `gemv`, `gemv_interleaved` and `gemm` compiled for `I`, the last with panels of `vectors` registers of
    /// rows and tiles of `tile` tokens.
    pub(super) const fn new<I: IntegerIsa>(
        vectors: usize,
        tile: usize,
        gemv: fn(&mut super::gemv::Gemv<'_>),
        gemv_interleaved: fn(&mut super::gemv_interleaved::GemvInterleaved<'_>),
        gemm: fn(&mut super::gemm::Gemm<'_>),
    ) -> Self {
        Self {
            width: I::WIDTH,
            panel: vectors * I::WIDTH / 4,
            tile,
            gemv,
            gemv_interleaved,
            gemm,
            keeps_base3: I::BASE3_SHIFT > 0 && I::WIDTH == 64,
        }
    }
}

/// Defines `kernels()`, the kernels of the instruction set `$isa`: panels of `$vectors` registers of rows, tiles of
/// `$tokens` tokens, and the float kernels that `$floats` runs.
///
/// With features, `kernels()` detects every one of them and returns `None` where one is missing. The same list is
/// enabled in the functions that construct `$isa`, so the compiler checks that it contains all that the type stands for.
macro_rules! kernels {
    ($isa:ty, $floats:ty, $vectors:literal, $tokens:literal) => {
        /// The kernels of this instruction set, which every machine of the target has.
        pub(in crate::cpu) fn kernels() -> &'static $crate::cpu::kernels::Kernels {
            fn gemv(job: &mut $crate::cpu::gemv::Gemv<'_>) {
                $crate::cpu::gemv::run(<$isa>::enabled(), job);
            }
            fn gemv_interleaved(job: &mut $crate::cpu::gemv_interleaved::GemvInterleaved<'_>) {
                $crate::cpu::gemv_interleaved::run(<$isa>::enabled(), job);
            }
            fn gemm(job: &mut $crate::cpu::gemm::Gemm<'_>) {
                $crate::cpu::gemm::run::<_, $vectors, $tokens>(<$isa>::enabled(), job);
            }
            static KERNELS: $crate::cpu::kernels::Kernels =
                $crate::cpu::kernels::Kernels::new::<$floats>(
                    $crate::cpu::integer::IntegerKernels::new::<$isa>($vectors, $tokens, gemv, gemv_interleaved, gemm),
                );
            &KERNELS
        }
    };
    ($isa:ty, $floats:ty, $vectors:literal, $tokens:literal, $detected:ident($($feature:tt),+)) => {
        /// The kernels of this instruction set, if the machine has all its features.
        pub(in crate::cpu) fn kernels() -> Option<&'static $crate::cpu::kernels::Kernels> {
            fn gemv(job: &mut $crate::cpu::gemv::Gemv<'_>) {
                $(#[target_feature(enable = $feature)])+
                fn enabled(job: &mut $crate::cpu::gemv::Gemv<'_>) {
                    $crate::cpu::gemv::run(<$isa>::enabled(), job);
                }
                // SAFETY: only `KERNELS` leads here, and it leaves `kernels` only if every feature was detected.
                unsafe { enabled(job) }
            }
            fn gemv_interleaved(job: &mut $crate::cpu::gemv_interleaved::GemvInterleaved<'_>) {
                $(#[target_feature(enable = $feature)])+
                fn enabled(job: &mut $crate::cpu::gemv_interleaved::GemvInterleaved<'_>) {
                    $crate::cpu::gemv_interleaved::run(<$isa>::enabled(), job);
                }
                // SAFETY: only `KERNELS` leads here, and it leaves `kernels` only if every feature was detected.
                unsafe { enabled(job) }
            }
            fn gemm(job: &mut $crate::cpu::gemm::Gemm<'_>) {
                $(#[target_feature(enable = $feature)])+
                fn enabled(job: &mut $crate::cpu::gemm::Gemm<'_>) {
                    $crate::cpu::gemm::run::<_, $vectors, $tokens>(<$isa>::enabled(), job);
                }
                // SAFETY: only `KERNELS` leads here, and it leaves `kernels` only if every feature was detected.
                unsafe { enabled(job) }
            }
            static KERNELS: $crate::cpu::kernels::Kernels =
                $crate::cpu::kernels::Kernels::new::<$floats>(
                    $crate::cpu::integer::IntegerKernels::new::<$isa>($vectors, $tokens, gemv, gemv_interleaved, gemm),
                );
            ($(std::arch::$detected!($feature))&&+).then_some(&KERNELS)
        }
    };
}

pub(super) use kernels;

/// The methods of [`IntegerIsa`] that a set with better dots takes from the set `self.0`, which it extends.
#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    all(target_arch = "wasm32", target_feature = "relaxed-simd")
))]
macro_rules! inherit {
    ($bytes:ty, $sums:ty, $width:literal) => {
        type Bytes = $bytes;
        type Sums = $sums;
        const WIDTH: usize = $width;

        #[inline(always)]
        fn load(self, bytes: &[u8]) -> $bytes {
            self.0.load(bytes)
        }
        #[inline(always)]
        fn prefetch(self, bytes: &[u8]) {
            self.0.prefetch(bytes);
        }
        #[inline(always)]
        fn load_parts(self, parts: [&[u8; 16]; 4]) -> $bytes {
            self.0.load_parts(parts)
        }
        #[inline(always)]
        fn transpose(self, four: [$bytes; 4]) -> [$bytes; 4] {
            self.0.transpose(four)
        }
        #[inline(always)]
        fn store(self, bytes: $bytes, out: &mut [u8]) {
            self.0.store(bytes, out);
        }
        #[inline(always)]
        fn splat(self, four: &[i8; 4]) -> $bytes {
            self.0.splat(four)
        }
        #[inline(always)]
        fn pair<const SHIFT: i32>(self, bytes: $bytes) -> $bytes {
            self.0.pair::<SHIFT>(bytes)
        }
        #[inline(always)]
        fn digit(self, bytes: $bytes) -> $bytes {
            self.0.digit(bytes)
        }
        #[inline(always)]
        fn triple(self, bytes: $bytes) -> $bytes {
            self.0.triple(bytes)
        }
        #[inline(always)]
        fn widen(self, four: [u16; 4]) -> [f32; 4] {
            self.0.widen(four)
        }
        #[inline(always)]
        fn zero(self) -> $sums {
            self.0.zero()
        }
        #[inline(always)]
        fn add_scaled(self, totals: &mut [f32], sums: $sums, q_sum: i32, scales: &[f32]) {
            self.0.add_scaled(totals, sums, q_sum, scales);
        }
        #[inline(always)]
        fn sum_lanes(self, four: [$sums; 4]) -> $sums {
            self.0.sum_lanes(four)
        }
        #[inline(always)]
        fn store_sums(self, sums: $sums, out: &mut [i32]) {
            self.0.store_sums(sums, out);
        }
    };
}

/// The methods of [`IntegerIsa`] that follow from `dot4`, an instruction that multiplies unsigned bytes of any size by
/// signed ones and adds four neighbours to an i32, and from `thrice_less`, 3·a − b + c in every i32.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! whole_dots {
    ($bytes:ty, $sums:ty) => {
        type Open = $sums;
        const RUN: usize = usize::MAX;
        const BASE3_SHIFT: u32 = 8;

        #[inline(always)]
        fn open(self, sums: $sums) -> $sums {
            sums
        }
        #[inline(always)]
        fn dot(self, open: $sums, codes: $bytes, q: $bytes) -> $sums {
            self.dot4(open, codes, q)
        }
        #[inline(always)]
        fn close(self, _: $sums, open: $sums) -> $sums {
            open
        }
        /// A digit is ⌊3·f / 256⌋ of a fraction f, and 3·f modulo 256 is the next fraction g: 256 times the digit is
        /// 3·f − g. So dots with the fractions themselves do, and no digit has to be found.
        #[inline(always)]
        fn base3_dots(
            self,
            sums: $sums,
            bytes: $bytes,
            q: [$bytes; $crate::cpu::integer::BASE3_PLANES],
        ) -> $sums {
            let (mut now, mut next) = (self.zero(), self.zero());
            let mut fractions = bytes;
            for q in q {
                now = self.dot4(now, fractions, q);
                fractions = self.triple(fractions);
                next = self.dot4(next, fractions, q);
            }
            self.thrice_less(now, next, sums)
        }
    };
}

#[cfg(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    all(target_arch = "wasm32", target_feature = "relaxed-simd")
))]
pub(super) use inherit;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) use whole_dots;
