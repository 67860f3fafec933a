//! Every operation of `BitNetTensor` beside the same of candle, on tensors that went from one to the other.

use bitnet_benchmarks::candle_ops;
use bitnet_core::cpu::CpuBackend;
use bitnet_core::{Activations, Device, HybridMemoryPool};
use bitnet_tensor::{Axes, BitLinear, BitNetDType, BitNetTensor, Conv1d};
use candle_core::{DType, Device as CandleDevice, Result, Tensor, Var};

const EPS: f32 = 1e-5;

fn pool() -> HybridMemoryPool {
    HybridMemoryPool::default()
}

/// A candle tensor of numbers from −4 to 4 and ours over its memory.
fn both(shape: &[usize]) -> Result<(BitNetTensor, Tensor)> {
    let values = bitnet_benchmarks::inputs::floats(shape.iter().product());
    let theirs = Tensor::from_vec(values, shape, &CandleDevice::Cpu)?;
    let ours = BitNetTensor::from_candle(&theirs, &pool()).expect("f32 on the CPU");
    Ok((ours, theirs))
}

#[track_caller]
fn agree(what: &str, ours: bitnet_core::Result<BitNetTensor>, theirs: Result<Tensor>) {
    let ours = ours.unwrap_or_else(|error| panic!("{what}: {error}"));
    let theirs = theirs.unwrap_or_else(|error| panic!("candle's {what}: {error}"));
    assert_eq!(ours.shape(), theirs.dims(), "shape of {what}");
    let flat = |tensor: &Tensor| -> Result<Vec<f32>> {
        tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
    };
    let ours = ours
        .to_dtype(BitNetDType::F32)
        .and_then(|t| t.to_vec::<f32>());
    let (ours, theirs) = (ours.expect("f32"), flat(&theirs).expect("f32"));
    for (i, (x, y)) in ours.iter().zip(&theirs).enumerate() {
        let close = (x - y).abs() <= 2e-5 * y.abs().max(1.0) || (x.is_nan() && y.is_nan());
        assert!(close, "{what}, element {i}: {x} and candle's {y}");
    }
}

#[test]
fn conversions_share_candles_memory_and_keep_every_bit() -> Result<()> {
    let pool = pool();
    let theirs = Tensor::arange(0f32, 24f32, &CandleDevice::Cpu)?.reshape((2, 3, 4))?;
    let views = [
        theirs.clone(),
        theirs.transpose(0, 2)?,
        theirs.narrow(1, 1, 2)?,
        theirs.narrow(2, 1, 2)?.t()?,
        theirs.narrow(0, 1, 1)?.broadcast_as((5, 3, 4))?,
        theirs.narrow(0, 0, 0)?,
        theirs.get(1)?.get(2)?.get(3)?,
    ];
    for (i, view) in views.iter().enumerate() {
        let ours = BitNetTensor::from_candle(view, &pool).expect("f32 on the CPU");
        assert!(ours.is_borrowed(), "view {i}");
        assert_eq!(ours.shape(), view.dims(), "view {i}");
        let expected: Vec<f32> = view.flatten_all()?.to_vec1()?;
        assert_eq!(ours.to_vec::<f32>().expect("f32"), expected, "view {i}");
        let back = ours.to_candle().expect("f32");
        assert_eq!(back.dims(), view.dims(), "view {i}");
        assert_eq!(back.flatten_all()?.to_vec1::<f32>()?, expected, "view {i}");
    }
    let stats = pool.zero_copy().stats();
    assert_eq!(stats.zero_copy.operations, views.len() as u64);
    assert_eq!(stats.copied.operations, views.len() as u64);
    Ok(())
}

#[test]
fn a_shared_tensor_outlives_candles_handle_and_is_copied_before_it_is_written() -> Result<()> {
    let theirs = Tensor::new(&[1f32, 2.0, 3.0], &CandleDevice::Cpu)?;
    let mut ours = BitNetTensor::from_candle(&theirs, &pool()).expect("f32 on the CPU");
    ours.make_mut::<f32>().expect("f32")[0] = 9.0;
    assert_eq!(theirs.to_vec1::<f32>()?, [1.0, 2.0, 3.0]);
    let ours = BitNetTensor::from_candle(&theirs, &pool()).expect("f32 on the CPU");
    drop(theirs);
    let elsewhere = std::thread::spawn(move || ours.to_vec::<f32>().expect("f32"));
    assert_eq!(elsewhere.join().expect("no panic"), [1.0, 2.0, 3.0]);
    Ok(())
}

#[test]
fn variables_are_copied_and_can_be_set() -> Result<()> {
    let variable = Var::new(&[1f32, 2.0], &CandleDevice::Cpu)?;
    let ours = BitNetTensor::from_candle(&variable, &pool()).expect("f32 on the CPU");
    assert!(!ours.is_borrowed());
    variable.set(&Tensor::new(&[5f32, 6.0], &CandleDevice::Cpu)?)?;
    assert_eq!(ours.to_vec::<f32>().expect("f32"), [1.0, 2.0]);
    Ok(())
}

#[test]
fn every_common_element_type_goes_both_ways_and_others_are_refused() -> Result<()> {
    let theirs = Tensor::new(&[0f32, 1.0, 2.0, 100.0], &CandleDevice::Cpu)?;
    for dtype in [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::U8,
        DType::I32,
        DType::I64,
    ] {
        let theirs = theirs.to_dtype(dtype)?;
        let ours = BitNetTensor::from_candle(&theirs, &pool()).expect("a common type");
        let back = ours.to_candle().expect("a common type");
        assert_eq!(back.dtype(), dtype);
        let values: Vec<f32> = back.to_dtype(DType::F32)?.to_vec1()?;
        assert_eq!(values, [0.0, 1.0, 2.0, 100.0]);
    }
    let error = BitNetTensor::from_candle(&theirs.to_dtype(DType::F64)?, &pool());
    assert!(error.expect_err("f64").to_string().contains("F64"));
    let bytes = BitNetTensor::zeros(&[2], BitNetDType::I8, &Device::Cpu, &pool()).expect("zeros");
    assert!(
        bytes
            .to_candle()
            .expect_err("i8")
            .to_string()
            .contains("i8")
    );
    Ok(())
}

#[test]
fn elementwise_operations_agree() -> Result<()> {
    let (x, cx) = both(&[5, 37])?;
    let (row, crow) = both(&[37])?;
    let (y, cy) = (
        row.abs().and_then(|y| y.add_scalar(0.5)),
        (crow.abs()? + 0.5)?,
    );
    let y = y.expect("f32");
    agree("add", x.add(&y), cx.broadcast_add(&cy));
    agree("sub", x.sub(&y), cx.broadcast_sub(&cy));
    agree("mul", x.mul(&y), cx.broadcast_mul(&cy));
    agree("div", x.div(&y), cx.broadcast_div(&cy));
    agree("minimum", x.minimum(&row), cx.broadcast_minimum(&crow));
    agree("maximum", x.maximum(&row), cx.broadcast_maximum(&crow));
    agree("add_scalar", x.add_scalar(1.5), &cx + 1.5);
    agree("sub_scalar", x.sub_scalar(1.5), &cx - 1.5);
    agree("mul_scalar", x.mul_scalar(1.5), &cx * 1.5);
    agree("div_scalar", x.div_scalar(1.5), &cx / 1.5);
    agree("clamp", x.clamp(-1.0, 2.0), cx.clamp(-1f32, 2f32));
    agree("eq", x.eq(&x), cx.eq(&cx));
    agree("ne", x.ne(&row), cx.ne(&crow.broadcast_as((5, 37))?));
    agree("lt", x.lt(&row), cx.broadcast_lt(&crow));
    agree("le", x.le(&row), cx.broadcast_le(&crow));
    agree("gt", x.gt(&row), cx.broadcast_gt(&crow));
    agree("ge", x.ge(&row), cx.broadcast_ge(&crow));
    let (less, cless) = (x.lt(&y).expect("bool"), cx.broadcast_lt(&cy)?);
    agree(
        "choose",
        less.choose(&x, &y),
        cless.where_cond(&cx, &cy.broadcast_as((5, 37))?),
    );
    agree("exp", x.exp(), cx.exp());
    agree("ln", y.ln(), cy.log());
    agree("sqrt", y.sqrt(), cy.sqrt());
    agree("recip", y.recip(), cy.recip());
    agree("sqr", x.sqr(), cx.sqr());
    agree("neg", x.neg(), cx.neg());
    agree("abs", x.abs(), cx.abs());
    agree("relu", x.relu(), cx.relu());
    agree("relu2", x.relu2(), cx.relu()?.sqr());
    agree("sigmoid", x.sigmoid(), candle_ops::sigmoid(&cx));
    agree("silu", x.silu(), cx.silu());
    agree("gelu", x.gelu(), cx.gelu());
    agree("gelu_erf", x.gelu_erf(), cx.gelu_erf());
    agree("tanh", x.tanh(), cx.tanh());
    agree("sin", x.sin(), cx.sin());
    agree("cos", x.cos(), cx.cos());
    for (name, assigned, expected) in [
        (
            "add_assign",
            BitNetTensor::add_assign as fn(&mut _, &_) -> _,
            cx.broadcast_add(&cy),
        ),
        (
            "sub_assign",
            BitNetTensor::sub_assign,
            cx.broadcast_sub(&cy),
        ),
        (
            "mul_assign",
            BitNetTensor::mul_assign,
            cx.broadcast_mul(&cy),
        ),
        (
            "div_assign",
            BitNetTensor::div_assign,
            cx.broadcast_div(&cy),
        ),
    ] {
        let mut z = x.clone();
        agree(name, assigned(&mut z, &y).map(|()| z), expected);
    }
    Ok(())
}

#[test]
fn views_and_conversions_agree() -> Result<()> {
    let (x, cx) = both(&[4, 6, 5])?;
    agree("reshape", x.reshape(&[8, 15]), cx.reshape((8, 15)));
    agree("flatten", x.flatten(), cx.flatten_all());
    agree("transpose", x.transpose(0, 2), cx.transpose(0, 2));
    agree("permute", x.permute(&[2, 0, 1]), cx.permute((2, 0, 1)));
    agree("slice", x.slice(1, 2..5), cx.narrow(1, 2, 3));
    agree("narrow", x.narrow(2, 1, 3), cx.narrow(2, 1, 3));
    agree("select", x.select(0, 3), cx.get(3));
    agree("unsqueeze", x.unsqueeze(1), cx.unsqueeze(1));
    agree(
        "squeeze",
        x.narrow(1, 0, 1).and_then(|x| x.squeeze(1)),
        cx.narrow(1, 0, 1)?.squeeze(1),
    );
    agree(
        "broadcast_to",
        x.broadcast_to(&[2, 4, 6, 5]),
        cx.broadcast_as((2, 4, 6, 5)),
    );
    agree(
        "contiguous",
        x.transpose(0, 2).and_then(|x| x.contiguous()),
        cx.transpose(0, 2)?.contiguous(),
    );
    for (ours, theirs) in [
        (BitNetDType::F16, DType::F16),
        (BitNetDType::BF16, DType::BF16),
        (BitNetDType::I32, DType::I32),
        (BitNetDType::I64, DType::I64),
    ] {
        agree(ours.name(), x.to_dtype(ours), cx.to_dtype(theirs));
    }
    Ok(())
}

#[test]
fn reductions_agree() -> Result<()> {
    let (x, cx) = both(&[3, 7, 19])?;
    agree("sum", x.sum(1, false), cx.sum(1));
    agree("sum of all", x.sum(Axes::All, false), cx.sum_all());
    agree(
        "sum of two axes",
        x.sum([0, 2], true),
        cx.sum_keepdim((0, 2)),
    );
    agree("mean", x.mean(-1, true), cx.mean_keepdim(2));
    agree("var", x.var(2, 1, false), cx.var(2));
    agree("max", x.max(0, false), cx.max(0));
    agree("min", x.min(2, true), cx.min_keepdim(2));
    agree("argmax", x.argmax(1, false), cx.argmax(1));
    agree("argmin", x.argmin(-1, true), cx.argmin_keepdim(2));
    Ok(())
}

#[test]
fn products_and_layers_agree() -> Result<()> {
    let ((a, ca), (b, cb)) = (both(&[3, 9, 17])?, both(&[3, 17, 5])?);
    agree("matmul", a.matmul(&b), ca.matmul(&cb));
    let (wide, cwide) = both(&[17, 4])?;
    agree(
        "matmul, broadcast",
        a.matmul(&wide),
        ca.broadcast_matmul(&cwide),
    );
    agree(
        "matmul, transposed",
        b.transpose(1, 2).and_then(|b| b.matmul(&wide)),
        cb.transpose(1, 2)?.broadcast_matmul(&cwide),
    );
    let (gain, cgain) = both(&[17])?;
    agree("softmax", a.softmax(-1), candle_ops::softmax(&ca));
    agree(
        "rms_norm",
        a.rms_norm(&gain, EPS),
        candle_ops::rms_norm(&ca, &cgain, EPS.into()),
    );
    agree(
        "layer_norm",
        a.layer_norm(&[17], Some(&gain), Some(&gain), EPS),
        candle_ops::layer_norm(&ca, &[17], Some(&cgain), Some(&cgain), EPS.into()),
    );
    let ((x, cx), (bias, cbias)) = (both(&[2, 4, 11])?, both(&[6])?);
    for (groups, stride, padding, dilation) in [(1, 1, 0, 1), (2, 2, 1, 1), (1, 1, 2, 2)] {
        let (kernel, ckernel) = both(&[6, 4 / groups, 3])?;
        let ours = Conv1d {
            stride,
            padding,
            dilation,
            groups,
        };
        let theirs = candle_ops::Conv1d {
            padding,
            stride,
            dilation,
            groups,
        };
        agree(
            "conv1d",
            x.conv1d(&kernel, Some(&bias), ours),
            candle_ops::conv1d(&cx, &ckernel, Some(&cbias), theirs),
        );
    }
    Ok(())
}

/// Mean and standard deviation.
fn moments(values: &[f32]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let squares = values.iter().map(|x| (f64::from(*x) - mean).powi(2));
    (mean, (squares.sum::<f64>() / count).sqrt())
}

#[test]
fn random_numbers_are_distributed_alike() -> Result<()> {
    // Means of so many numbers are within 5 standard errors of where they belong all but one time in a million.
    const COUNT: usize = 1 << 16;
    let pool = pool();
    let error = 5.0 / (COUNT as f64).sqrt();
    let normal = BitNetTensor::randn(&[COUNT], 7, &Device::Cpu, &pool).expect("randn");
    let uniform = BitNetTensor::rand(&[COUNT], (-2.0, 6.0), 7, &Device::Cpu, &pool).expect("rand");
    let theirs = [
        Tensor::randn(0f32, 1f32, COUNT, &CandleDevice::Cpu)?,
        Tensor::rand(-2f32, 6f32, COUNT, &CandleDevice::Cpu)?,
    ];
    let spread = 8.0 / 12f64.sqrt();
    let expected = [(0.0, 1.0), (2.0, spread)];
    for ((ours, theirs), (mean, deviation)) in [normal, uniform].iter().zip(&theirs).zip(expected) {
        let ours = ours.to_vec::<f32>().expect("f32");
        for (who, values) in [("ours", ours), ("candle's", theirs.to_vec1()?)] {
            let (found_mean, found_deviation) = moments(&values);
            let off = error * deviation;
            assert!((found_mean - mean).abs() < off, "{who}: mean {found_mean}");
            assert!(
                (found_deviation - deviation).abs() < off,
                "{who}: deviation {found_deviation}"
            );
        }
    }
    Ok(())
}

#[test]
fn tensors_are_created_alike() -> Result<()> {
    let (pool, device, cpu) = (pool(), Device::Cpu, CandleDevice::Cpu);
    let shape = [3, 0, 2];
    for shape in [&[2, 3][..], &[5], &[], &shape] {
        let zeros = BitNetTensor::zeros(shape, BitNetDType::F32, &device, &pool);
        agree("zeros", zeros, Tensor::zeros(shape, DType::F32, &cpu));
        let ones = BitNetTensor::ones(shape, BitNetDType::F16, &device, &pool);
        agree("ones", ones, Tensor::ones(shape, DType::F16, &cpu));
        let full = BitNetTensor::full(shape, 2.5, BitNetDType::F32, &device, &pool);
        agree("full", full, Tensor::full(2.5f32, shape, &cpu));
    }
    let arange = BitNetTensor::arange(-1.0, 4.0, 0.5, &device, &pool);
    agree("arange", arange, Tensor::arange_step(-1f32, 4.0, 0.5, &cpu));
    let values = [1f32, 2.0, 3.0, 4.0, 5.0, 6.0];
    let slice = BitNetTensor::from_slice(&values, &[3, 2], &device, &pool);
    agree(
        "from_slice",
        slice,
        Tensor::from_slice(&values, &[3, 2], &cpu),
    );
    Ok(())
}

#[test]
fn the_ternary_layer_is_a_product_with_the_weights_it_packs() -> Result<()> {
    let (rows, cols) = (48, 160);
    let codes: Vec<f32> = bitnet_benchmarks::inputs::ternary(rows * cols)
        .into_iter()
        .map(|code| 0.25 * f32::from(code))
        .collect();
    let (device, pool) = (Device::Cpu, pool());
    let weight = BitNetTensor::from_slice(&codes, &[rows, cols], &device, &pool).expect("weights");
    let (bias, their_bias) = both(&[rows])?;
    let backend = std::sync::Arc::new(CpuBackend::new(Some(2), None).expect("a backend"));
    let layer = BitLinear::from_f32(&weight, Some(bias), backend).expect("a layer");
    let (x, theirs) = both(&[2, 3, cols])?;
    let transposed = Tensor::from_vec(codes, (rows, cols), &CandleDevice::Cpu)?.t()?;
    let expected = theirs
        .broadcast_matmul(&transposed)?
        .broadcast_add(&their_bias)?;
    let exact = layer.clone().with_activations(Activations::F32);
    agree(
        "BitLinear, f32 activations",
        exact.forward(&x),
        Ok(expected.clone()),
    );

    // Each activation is off by half a step of its row's largest / 127 at most.
    let rounded = layer
        .forward(&x)
        .expect("a product")
        .to_vec::<f32>()
        .expect("f32");
    let inputs = x.to_vec::<f32>().expect("f32");
    let expected: Vec<f32> = expected.flatten_all()?.to_vec1()?;
    for (token, (found, expected)) in rounded.chunks(rows).zip(expected.chunks(rows)).enumerate() {
        let row = &inputs[token * cols..][..cols];
        let largest = row.iter().fold(0f32, |m, x| m.max(x.abs()));
        let most = 0.25 * cols as f32 * 0.5 * largest / 127.0 + 1e-4;
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() <= most,
                "{found} and candle's {expected}"
            );
        }
    }
    Ok(())
}
