//! Every kernel, in every way it can be put together, is valid WGSL and translates to what drivers take.

use super::*;
use naga::Module;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

const X: RowPlace = RowPlace {
    cols: 256,
    offset: 0,
    stride: 256,
};

/// Heads that make up [`X`].
const WIDE: Option<HeadsPlace> = Some(HeadsPlace {
    query: 2,
    kv: 1,
    dim: 128,
    half: false,
});

/// Rows that no vector can be read from.
const ODD: RowPlace = RowPlace {
    cols: 250,
    offset: 3,
    stride: 261,
};

fn tables() -> Vec<TablePlace> {
    let table = |kind, stride| TablePlace {
        kind,
        cols: 250,
        stored: 256,
        stride,
        rows: 99,
        factors: None,
    };
    let ternary = |group| TableKind::Ternary(TernaryRow { words: 16, group });
    vec![
        table(TableKind::F32, 63),
        table(TableKind::F16, 32),
        table(TableKind::Bf16, 32),
        table(TableKind::Q8_0, 68),
        table(TableKind::Q4_0, 36),
        table(TableKind::Q6K, 53),
        table(ternary(0), 16),
        table(ternary(64), 16),
    ]
}

/// Kernels of every kind, with every choice of their pieces.
fn kernels() -> Vec<Kernel> {
    let mut list = vec![Kernel::Combine {
        heads: heads(false),
    }];
    let eps = [None, Some(1e-5f32.to_bits())];
    let gates = [false, true].map(|silu| Some(GatePlace { silu, up: ODD }));
    for x in [X, ODD] {
        for eps in eps {
            for gate in [None, gates[0], gates[1]] {
                list.push(Kernel::Norm {
                    x,
                    eps,
                    gate,
                    out_stride: 256,
                    asked: true,
                });
                list.push(Kernel::Quantize {
                    threads: 192,
                    x,
                    eps,
                    gate,
                    pieces: None,
                    words: 16,
                });
            }
            list.push(Kernel::Quantize {
                threads: 256,
                x: X,
                eps,
                gate: None,
                pieces: WIDE,
                words: 16,
            });
            for group in [0, 64, 256] {
                let row = TernaryRow { words: 16, group };
                for (epilogue, pieces) in epilogues().into_iter().zip([None, WIDE, None, WIDE]) {
                    list.push(Kernel::Gemv {
                        teams: Teams {
                            threads: 192,
                            each: if group == 0 { 2 } else { 1 },
                        },
                        x: if pieces.is_some() { X } else { x },
                        pieces,
                        eps,
                        row,
                        rows: [9, 3, 3],
                        out: [0, 9, 12],
                        out_stride: 15,
                        epilogue,
                    });
                }
            }
        }
    }
    for group in [0, 64, 256] {
        let row = TernaryRow { words: 16, group };
        for (epilogue, tokens) in epilogues().iter().zip([1, 2, 8, 16]) {
            list.push(Kernel::GemvRows {
                tokens,
                each: 2,
                row: TernaryRow { group: 0, ..row },
                rows: [9, 70, 3],
                out: [0, 9, 79],
                out_stride: 82,
                epilogue: *epilogue,
            });
        }
        for (epilogue, tokens) in epilogues().iter().zip([9, 9999]) {
            let tile = GemmTile::of(row, [9, 7000, 3], tokens, lanes(32, true, true));
            list.push(gemm(tile, row, *epilogue));
        }
    }
    for table in tables() {
        list.push(Kernel::Embed {
            table,
            first: 7,
            out_stride: 250,
        });
        for (epilogue, tokens) in epilogues().iter().zip([1, 8]) {
            list.push(Kernel::Dense {
                table,
                x: X,
                out: 0,
                out_stride: 99,
                epilogue: *epilogue,
                tokens,
            });
        }
    }
    for heads in [Some(heads(false)), Some(heads(true)), WIDE]
        .into_iter()
        .flatten()
    {
        list.push(Kernel::AttendTile { heads });
        let (class, turn) = (1, None);
        list.push(Kernel::Attend { heads, class, turn });
        for interleaved in [false, true] {
            for eps in [None, Some([1, 2])] {
                let turn = TurnPlace {
                    half: 9,
                    interleaved,
                    rows: [X, X, ODD],
                    eps,
                };
                list.push(Kernel::Rope { heads, turn });
                let (class, turn) = (2, Some(turn));
                list.push(Kernel::Attend { heads, class, turn });
            }
        }
    }
    for logits in [false, true] {
        list.push(Kernel::Best { count: 999, logits });
        list.push(Kernel::Top {
            count: 999,
            kept: 40,
            logits,
        });
    }
    for copies in [false, true] {
        let vectors = 999;
        list.push(Kernel::Stream { vectors, copies });
    }
    for table in tables() {
        list.push(Kernel::Shadow { table });
        let (x, leasts) = (X, 77);
        list.push(Kernel::Screened { table, x, leasts });
    }
    for x in [X, ODD] {
        let (eps, out_stride) = (None, 256);
        list.push(Kernel::ScreenRow { x, eps, out_stride });
    }
    list.push(Kernel::Screen {
        rows: 99,
        cols: 250,
    });
    let (count, vocabulary) = (77, 999);
    list.push(Kernel::Likeliest { count, vocabulary });
    let (vocabulary, kept) = (999, 4);
    list.push(Kernel::Exclude { vocabulary, kept });
    list.push(Kernel::Answer { vocabulary, kept });
    list
}

fn epilogues() -> [Epilogue; 4] {
    [
        Epilogue::Store,
        Epilogue::Add {
            offset: 3,
            stride: 15,
        },
        Epilogue::Gate { silu: false },
        Epilogue::Gate { silu: true },
    ]
}

fn heads(half: bool) -> HeadsPlace {
    HeadsPlace {
        query: 6,
        kv: 3,
        dim: 50,
        half,
    }
}

fn lanes(size: u32, subgroups: bool, packed_dot: bool) -> Lanes {
    Lanes {
        size,
        subgroups,
        ..Lanes::through_memory(packed_dot)
    }
}

fn gemm(tile: GemmTile, row: TernaryRow, epilogue: Epilogue) -> Kernel {
    Kernel::Gemm {
        tile,
        row,
        rows: [9, 70, 3],
        out: [0, 9, 79],
        out_stride: 82,
        epilogue,
    }
}

/// Parses a kernel, checks it, and translates it to SPIR-V.
fn checked(kernel: Kernel, source: &Source, capabilities: Capabilities) -> (Module, ModuleInfo) {
    let refused =
        |what: &str, error: String| -> ! { panic!("{kernel:?}: {what}: {error}\n{}", source.text) };
    let module = match naga::front::wgsl::parse_str(&source.text) {
        Ok(module) => module,
        Err(error) => refused("WGSL", error.emit_to_string(&source.text)),
    };
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all());
    let info = match validator.validate(&module) {
        Ok(info) => info,
        Err(error) => refused("validation", error.emit_to_string(&source.text)),
    };
    let options = naga::back::spv::Options {
        lang_version: (1, 3),
        ..Default::default()
    };
    if let Err(error) = naga::back::spv::write_vec(&module, &info, &options, None) {
        refused("SPIR-V", error.to_string());
    }
    (module, info)
}

const SUBGROUPS: Capabilities = Capabilities::SUBGROUP
    .union(Capabilities::SUBGROUP_BARRIER)
    .union(Capabilities::SHADER_FLOAT16_IN_FLOAT32);

#[test]
fn kernels_of_matrices_are_valid_and_fit_workgroup_memory() {
    let capabilities = SUBGROUPS | Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16;
    for (matrices, size) in [(8, 8), (16, 32)] {
        let lanes = Lanes {
            matrices,
            ..lanes(size, true, true)
        };
        let tiles = GemmTile::of_matrices(lanes).into_iter();
        let row = TernaryRow {
            words: 16,
            group: 0,
        };
        let mut list: Vec<Kernel> = tiles
            .zip(epilogues())
            .map(|(tile, epilogue)| gemm(tile, row, epilogue))
            .collect();
        list.extend([32, 96, 128].map(|dim| {
            let heads = HeadsPlace { dim, ..heads(true) };
            assert!(heads.multiplies_matrices(lanes));
            Kernel::AttendTile { heads }
        }));
        for kernel in list {
            let source = kernel.source(lanes);
            let (module, _) = checked(kernel, &source, capabilities);
            assert!(source.text.contains("coopMultiplyAdd"), "{kernel:?}");
            let mut layouter = naga::proc::Layouter::default();
            layouter.update(module.to_ctx()).expect("sizes of types");
            let bytes: u32 = module
                .global_variables
                .iter()
                .filter(|(_, variable)| variable.space == naga::AddressSpace::WorkGroup)
                .map(|(_, variable)| layouter[variable.ty].size)
                .sum();
            assert!(bytes <= GemmTile::memory(matrices), "{kernel:?}: {bytes}");
        }
    }
}

#[test]
fn every_kernel_is_valid_and_translates() {
    let mut sources: Vec<(Kernel, Source)> = Vec::new();
    for kernel in kernels() {
        for lanes in [
            lanes(32, true, true),
            lanes(8, true, true),
            lanes(32, false, true),
            lanes(32, false, false),
        ] {
            sources.push((kernel, kernel.source(lanes)));
        }
    }
    sources.push((Kernel::Probe, Kernel::Probe.source(lanes(32, true, true))));
    for (kernel, source) in sources {
        let refused = |what: &str, error: String| -> ! {
            panic!("{kernel:?}: {what}: {error}\n{}", source.text)
        };
        let (module, info) = checked(kernel, &source, SUBGROUPS);
        let options = naga::back::msl::Options {
            lang_version: (2, 4),
            fake_missing_bindings: true,
            ..Default::default()
        };
        let pipeline = naga::back::msl::PipelineOptions::default();
        if let Err(error) = naga::back::msl::write_string(&module, &info, &options, &pipeline) {
            refused("MSL", error.to_string());
        }
        let options = naga::back::hlsl::Options {
            shader_model: naga::back::hlsl::ShaderModel::V6_4,
            fake_missing_bindings: true,
            ..Default::default()
        };
        let mut text = String::new();
        let pipeline = naga::back::hlsl::PipelineOptions::default();
        let mut writer = naga::back::hlsl::Writer::new(&mut text, &options, &pipeline);
        if let Err(error) = writer.write(&module, &info, None) {
            refused("HLSL", error.to_string());
        }
    }
}

#[test]
fn bindings_are_those_that_the_texts_declare() {
    for kernel in kernels() {
        let source = kernel.source(lanes(32, true, true));
        let module = naga::front::wgsl::parse_str(&source.text).unwrap_or_else(|error| {
            panic!("{kernel:?}: {}", error.emit_to_string(&source.text));
        });
        for (_, variable) in module.global_variables.iter() {
            let Some(binding) = &variable.binding else {
                continue;
            };
            let writes = matches!(
                variable.space,
                naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE)
            );
            let access = match variable.space {
                naga::AddressSpace::Uniform => Access::Uniform,
                _ if writes => Access::Write,
                _ => Access::Read,
            };
            let declared = source.bindings.get(binding.binding as usize);
            assert_eq!(declared, Some(&access), "{kernel:?}: {:?}", variable.name);
        }
    }
}

/// The lines of a text of Metal's language that its conditions leave.
#[cfg(all(feature = "metal-shim", target_os = "linux"))]
fn lines_that_count(text: &str) -> Vec<&str> {
    let is_set = |name: &str| {
        let define = format!("#define {name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&define));
        value.is_some_and(|value| value.trim_end_matches('u') != "0")
    };
    let mut counts = true;
    text.lines()
        .filter(|line| {
            match (line.strip_prefix("#if "), *line) {
                (Some(name), _) => counts = is_set(name),
                (_, "#else") => counts = !counts,
                (_, "#endif") => counts = true,
                _ => return counts,
            }
            false
        })
        .collect()
}

#[cfg(all(feature = "metal-shim", target_os = "linux"))]
#[test]
fn bindings_are_those_that_the_texts_for_metal_declare() {
    for kernel in kernels() {
        for matrices in [false, true] {
            let source = kernel.source(Lanes::of_apple(matrices));
            let mut last = None;
            for line in lines_that_count(&source.text) {
                let Some((parameter, rest)) = line.trim_start().split_once(" [[buffer(") else {
                    continue;
                };
                let index = rest
                    .split_once(')')
                    .and_then(|(index, _)| index.parse().ok());
                assert!(index.is_some() && last < index, "{kernel:?}: {line}");
                last = index;
                let access = if parameter.starts_with("constant ") {
                    Access::Uniform
                } else if parameter.starts_with("device const ") {
                    Access::Read
                } else {
                    Access::Write
                };
                let declared = index.and_then(|index: usize| source.bindings.get(index));
                assert_eq!(declared, Some(&access), "{kernel:?}: {line}");
            }
        }
    }
}
