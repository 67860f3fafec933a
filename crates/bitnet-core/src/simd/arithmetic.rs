//! Functions of two elements: of two slices, of a slice and a number.

use super::functions::{Function, Map, MapInPlace};
use super::{lanes, vector};
use crate::Gate;
use rten_simd::ops::{BitOps, FloatOps, NumOps};
use rten_simd::{Isa, SimdOp};

/// A function of two elements, on registers of them.
pub(super) trait Function2: Copy {
    fn apply<I: Isa>(self, isa: I, a: I::F32, b: I::F32) -> I::F32;
}

pub(super) struct Zip<'a, F>(
    pub(super) F,
    pub(super) &'a [f32],
    pub(super) &'a [f32],
    pub(super) &'a mut [f32],
);

impl<F: Function2> SimdOp for Zip<'_, F> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self(f, a, b, out) = self;
        lanes::zip(
            isa,
            a,
            b,
            out,
            #[inline(always)]
            |a, b| f.apply(isa, a, b),
        );
    }
}

pub(crate) struct ZipInPlace<'a, F>(pub(crate) F, pub(crate) &'a mut [f32], pub(crate) &'a [f32]);

impl<F: Function2> SimdOp for ZipInPlace<'_, F> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self(f, a, b) = self;
        lanes::zip_in_place(
            isa,
            a,
            b,
            #[inline(always)]
            |a, b| f.apply(isa, a, b),
        );
    }
}

/// f(x, number).
#[derive(Clone, Copy)]
struct Right<F>(F, f32);

impl<F: Function2> Function for Right<F> {
    #[inline(always)]
    fn apply<I: Isa>(self, isa: I, x: I::F32) -> I::F32 {
        self.0.apply(isa, x, isa.f32().splat(self.1))
    }
}

/// f(number, x).
#[derive(Clone, Copy)]
struct Left<F>(F, f32);

impl<F: Function2> Function for Left<F> {
    #[inline(always)]
    fn apply<I: Isa>(self, isa: I, x: I::F32) -> I::F32 {
        self.0.apply(isa, isa.f32().splat(self.1), x)
    }
}

macro_rules! functions_of_two {
    ($(
        $(#[$doc:meta])*
        $name:ident, $assign:ident, $scalar:ident, $scalar_assign:ident = $function:ident, $apply:expr;
    )*) => {
        $(
            $(#[$doc])*
            pub fn $name(a: &[f32], b: &[f32], out: &mut [f32]) {
                Zip($function, a, b, out).dispatch();
            }

            #[doc = concat!("As [`", stringify!($name), "`], into `a`.")]
            pub fn $assign(a: &mut [f32], b: &[f32]) {
                ZipInPlace($function, a, b).dispatch();
            }

            #[doc = concat!("As [`", stringify!($name), "`], every bᵢ being `b`.")]
            pub fn $scalar(a: &[f32], b: f32, out: &mut [f32]) {
                Map(Right($function, b), a, out).dispatch();
            }

            #[doc = concat!("As [`", stringify!($name), "`], every bᵢ being `b`, into `a`.")]
            pub fn $scalar_assign(a: &mut [f32], b: f32) {
                MapInPlace(Right($function, b), a).dispatch();
            }

            #[derive(Clone, Copy)]
            pub(crate) struct $function;

            impl Function2 for $function {
                #[inline(always)]
                fn apply<I: Isa>(self, isa: I, a: I::F32, b: I::F32) -> I::F32 {
                    ($apply)(isa, a, b)
                }
            }
        )*
    };
}

functions_of_two! {
    /// outᵢ = aᵢ + bᵢ.
    add, add_assign, add_scalar, add_scalar_assign = Add, add_of;
    /// outᵢ = aᵢ − bᵢ.
    sub, sub_assign, sub_scalar, sub_scalar_assign = Sub, sub_of;
    /// outᵢ = aᵢ·bᵢ.
    mul, mul_assign, mul_scalar, mul_scalar_assign = Mul, mul_of;
    /// outᵢ = aᵢ / bᵢ.
    div, div_assign, div_scalar, div_scalar_assign = Div, div_of;
    /// outᵢ = bᵢ if aᵢ > bᵢ, else aᵢ (so aᵢ where either is NaN).
    minimum, minimum_assign, minimum_scalar, minimum_scalar_assign = Minimum, minimum_of;
    /// outᵢ = bᵢ if aᵢ < bᵢ, else aᵢ (so aᵢ where either is NaN).
    maximum, maximum_assign, maximum_scalar, maximum_scalar_assign = Maximum, maximum_of;
}

#[inline(always)]
fn add_of<I: Isa>(isa: I, a: I::F32, b: I::F32) -> I::F32 {
    isa.f32().add(a, b)
}

#[inline(always)]
fn sub_of<I: Isa>(isa: I, a: I::F32, b: I::F32) -> I::F32 {
    isa.f32().sub(a, b)
}

#[inline(always)]
fn mul_of<I: Isa>(isa: I, a: I::F32, b: I::F32) -> I::F32 {
    isa.f32().mul(a, b)
}

#[inline(always)]
fn div_of<I: Isa>(isa: I, a: I::F32, b: I::F32) -> I::F32 {
    isa.f32().div(a, b)
}

#[inline(always)]
fn minimum_of<I: Isa>(isa: I, a: I::F32, b: I::F32) -> I::F32 {
    let ops = isa.f32();
    ops.select(b, a, ops.gt(a, b))
}

#[inline(always)]
fn maximum_of<I: Isa>(isa: I, a: I::F32, b: I::F32) -> I::F32 {
    let ops = isa.f32();
    ops.select(b, a, ops.lt(a, b))
}

/// outᵢ = a − bᵢ.
pub fn scalar_sub(a: f32, b: &[f32], out: &mut [f32]) {
    Map(Left(Sub, a), b, out).dispatch();
}

/// As [`scalar_sub`], into `b`.
pub fn scalar_sub_assign(a: f32, b: &mut [f32]) {
    MapInPlace(Left(Sub, a), b).dispatch();
}

/// outᵢ = a / bᵢ.
pub fn scalar_div(a: f32, b: &[f32], out: &mut [f32]) {
    Map(Left(Div, a), b, out).dispatch();
}

/// As [`scalar_div`], into `b`.
pub fn scalar_div_assign(a: f32, b: &mut [f32]) {
    MapInPlace(Left(Div, a), b).dispatch();
}

/// silu(g)·u.
#[derive(Clone, Copy)]
pub(crate) struct SiluMul;

impl Function2 for SiluMul {
    #[inline(always)]
    fn apply<I: Isa>(self, isa: I, g: I::F32, u: I::F32) -> I::F32 {
        isa.f32().mul(vector::silu(isa, g), u)
    }
}

/// relu²(g)·u.
#[derive(Clone, Copy)]
pub(crate) struct Relu2Mul;

impl Function2 for Relu2Mul {
    #[inline(always)]
    fn apply<I: Isa>(self, isa: I, g: I::F32, u: I::F32) -> I::F32 {
        isa.f32().mul(vector::relu2(isa, g), u)
    }
}

/// gelu(g)·u.
#[derive(Clone, Copy)]
pub(crate) struct GeluMul;

impl Function2 for GeluMul {
    #[inline(always)]
    fn apply<I: Isa>(self, isa: I, g: I::F32, u: I::F32) -> I::F32 {
        isa.f32().mul(vector::gelu(isa, g), u)
    }
}

/// x · sigmoid(g).
#[derive(Clone, Copy)]
pub(crate) struct SigmoidMul;

impl Function2 for SigmoidMul {
    #[inline(always)]
    fn apply<I: Isa>(self, isa: I, x: I::F32, g: I::F32) -> I::F32 {
        isa.f32().mul(x, vector::sigmoid(isa, g))
    }
}

/// [`gate`] on any instruction set.
pub(crate) struct Gated<'a>(
    pub(crate) &'a mut [f32],
    pub(crate) &'a [f32],
    pub(crate) Gate,
);

impl SimdOp for Gated<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Self(g, u, function) = self;
        match function {
            Gate::Silu => ZipInPlace(SiluMul, g, u).eval(isa),
            Gate::Relu2 => ZipInPlace(Relu2Mul, g, u).eval(isa),
            Gate::Gelu => ZipInPlace(GeluMul, g, u).eval(isa),
        }
    }
}

/// gᵢ = gate(gᵢ)·uᵢ, the gated activation of a transformer.
pub fn gate(g: &mut [f32], u: &[f32], function: Gate) {
    Gated(g, u, function).dispatch();
}
