//! Matrices that a subgroup multiplies as one, halves whose products are added up as floats. Natively wgpu has them as an experiment;
//! WebGPU does not.

use wgpu::CooperativeScalarType::{F16, F32};

/// Features that kernels with matrices need beyond subgroups.
pub(super) const FEATURES: wgpu::Features =
    wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX.union(wgpu::Features::SHADER_F16);

/// Rows and columns of the largest matrices that the kernels have types for and `adapter` multiplies; 0 if there are none.
pub(super) fn side(adapter: &wgpu::Adapter) -> u32 {
    if !adapter.features().contains(FEATURES) {
        return 0;
    }
    let found = adapter.cooperative_matrix_properties();
    let has = |side: &u32| {
        found.iter().any(|matrices| {
            let sides = [matrices.m_size, matrices.n_size, matrices.k_size];
            sides == [*side; 3] && (matrices.ab_type, matrices.cr_type) == (F16, F32)
        })
    };
    [16, 8].into_iter().find(has).unwrap_or(0)
}

/// Leave to use what is an experiment of wgpu's, if there are matrices.
pub(super) fn allowed(side: u32) -> wgpu::ExperimentalFeatures {
    if side == 0 {
        return wgpu::ExperimentalFeatures::disabled();
    }
    // SAFETY: of what is experimental only cooperative matrices are asked for. The kernels load and store them within their
    // workgroup's memory, in uniform control flow, by subgroups whose size was looked at (probe.rs).
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}
