//! Recurrent layers against naive formulas in f64, cell by cell and option by option.

use super::*;
use crate::op::testing::infer;
use crate::ops::Op;

const T: usize = 4;
const N: usize = 3;
const I: usize = 2;
const H: usize = 2;

fn layer(cell: Cell, direction: Direction) -> Rnn {
    let directions = if direction == Direction::Both { 2 } else { 1 };
    let one = match cell {
        Cell::Lstm => vec![Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
        Cell::Gru => vec![Activation::Sigmoid, Activation::Tanh],
        Cell::Plain => vec![Activation::Tanh],
    };
    let activations = vec![one; directions].concat();
    let zeros = vec![Real(0.0); activations.len()];
    Rnn {
        cell,
        direction,
        hidden: H,
        activations,
        alpha: zeros.clone(),
        beta: zeros,
        clip: Real(f64::INFINITY),
        linear_before_reset: false,
        input_forget: false,
        lengths: false,
    }
}

fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let x: Vec<f32> = (0..shape.iter().product()).map(|i| ((i * 29 + seed * 13) % 17) as f32 / 8.0 - 1.0).collect();
    Tensor::from_f32(shape.to_vec(), &x)
}

fn operands(op: &Rnn) -> Vec<Tensor> {
    let (d, g) = (op.directions(), op.cell.gates());
    let shapes = [vec![T, N, I], vec![d, g * H, I], vec![d, g * H, H], vec![d, 2 * g * H], vec![d, N, H]];
    let mut out: Vec<Tensor> = shapes.iter().enumerate().map(|(seed, shape)| numbers(shape, seed)).collect();
    if op.cell == Cell::Lstm {
        out.extend([numbers(&[d, N, H], 5), numbers(&[d, 3 * H], 6)]);
    }
    if op.lengths {
        out.push(Tensor::from_consts(DType::I32, vec![N], [4, 0, 2].map(|x| Const::int(DType::I32, x))));
    }
    out
}

/// y, yh and yc by the formulas of the ONNX documents.
fn naive(op: &Rnn, operands: &[Tensor]) -> [Vec<f64>; 3] {
    let v: Vec<Vec<f64>> = operands.iter().map(Tensor::to_f64).collect();
    let (d, g) = (op.directions(), op.cell.gates());
    let mut out = [vec![0.0; T * d * N * H], vec![0.0; d * N * H], vec![0.0; d * N * H]];
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let clip = |x: f64| x.clamp(-op.clip.0, op.clip.0);
    for dir in 0..d {
        for n in 0..N {
            let len = if op.lengths { v[v.len() - 1][n] as usize } else { T };
            let state = (dir * N + n) * H;
            let mut h = v[4][state..state + H].to_vec();
            let mut c = if op.cell == Cell::Lstm { v[5][state..state + H].to_vec() } else { vec![0.0; H] };
            for s in 0..len {
                let t = if dir == 1 || op.direction == Direction::Reverse { len - 1 - s } else { s };
                let from_x = |gate: usize, j: usize| -> f64 {
                    (0..I).map(|i| v[0][(t * N + n) * I + i] * v[1][(dir * g * H + gate * H + j) * I + i]).sum()
                };
                let from_h = |h: &[f64], gate: usize, j: usize| -> f64 {
                    (0..H).map(|i| h[i] * v[2][(dir * g * H + gate * H + j) * H + i]).sum()
                };
                let wb = |gate: usize, j: usize| v[3][dir * 2 * g * H + gate * H + j];
                let rb = |gate: usize, j: usize| v[3][dir * 2 * g * H + (g + gate) * H + j];
                let pre = |gate, j| from_x(gate, j) + from_h(&h, gate, j) + wb(gate, j) + rb(gate, j);
                let next: Vec<f64> = match op.cell {
                    Cell::Plain => (0..H).map(|j| clip(pre(0, j)).tanh()).collect(),
                    Cell::Gru => {
                        let r: Vec<f64> = (0..H).map(|j| sigmoid(clip(pre(1, j)))).collect();
                        let rh: Vec<f64> = (0..H).map(|j| r[j] * h[j]).collect();
                        let one = |j: usize| {
                            let z = sigmoid(clip(pre(0, j)));
                            let g = if op.linear_before_reset {
                                from_x(2, j) + r[j] * (from_h(&h, 2, j) + rb(2, j)) + wb(2, j)
                            } else {
                                from_x(2, j) + from_h(&rh, 2, j) + rb(2, j) + wb(2, j)
                            };
                            (1.0 - z) * clip(g).tanh() + z * h[j]
                        };
                        (0..H).map(one).collect()
                    }
                    Cell::Lstm => {
                        let p = |gate: usize, j: usize| v[6][dir * 3 * H + gate * H + j];
                        let mut one = |j: usize| {
                            let i = sigmoid(clip(pre(0, j) + p(0, j) * c[j]));
                            let f = if op.input_forget { 1.0 - i } else { sigmoid(clip(pre(2, j) + p(2, j) * c[j])) };
                            c[j] = f * c[j] + i * clip(pre(3, j)).tanh();
                            sigmoid(clip(pre(1, j) + p(1, j) * c[j])) * c[j].tanh()
                        };
                        (0..H).map(&mut one).collect()
                    }
                };
                h = next;
                let to = ((t * d + dir) * N + n) * H;
                out[0][to..to + H].copy_from_slice(&h);
            }
            out[1][state..state + H].copy_from_slice(&h);
            out[2][state..state + H].copy_from_slice(&c);
        }
    }
    out
}

fn check(op: Rnn) {
    let operands = operands(&op);
    let expected = naive(&op, &operands);
    let name = format!("{op:?}");
    let results = Op::from(op).eval(&operands, &EvalCx { symbols: &|_| None }).unwrap();
    for (tensor, expected) in results.iter().zip(expected) {
        for (x, y) in tensor.to_f64().into_iter().zip(expected) {
            assert!((x - y).abs() < 1e-5, "{x}, not {y}, in {name}");
        }
    }
}

#[test]
fn shapes() {
    let op = layer(Cell::Lstm, Direction::Both);
    let types = ["f32[T, N, 5]", "f32[2, 8, 5]", "f32[2, 8, 2]", "f32[2, 16]", "f32[2, N, 2]", "f32[2, N, 2]", "f32[2, 6]"];
    assert_eq!(infer(op.clone(), &types), "f32[T, 2, N, 2], f32[2, N, 2], f32[2, N, 2]");
    assert_eq!(infer(op.clone(), &types[..5]), "takes 7 operands, not 5");
    let mut wrong = types;
    wrong[2] = "f32[2, 8, 3]";
    assert_eq!(infer(op.clone(), &wrong), "r is f32[2, 8, 3], f32[2, 8, 2] is needed");
    let short = Rnn { alpha: vec![], ..op };
    assert_eq!(infer(short, &types), "[6, 0, 6] activations, alphas and betas, 6 of each are needed");
    let plain = layer(Cell::Plain, Direction::Forward);
    let ints = ["i32[4, 1, 2]", "i32[1, 2, 2]", "i32[1, 2, 2]", "i32[1, 4]", "i32[1, 1, 2]"];
    assert_eq!(infer(plain, &ints), "does not apply to i32");
}

#[test]
fn cells_in_every_direction() {
    for &cell in Cell::ALL {
        for &direction in Direction::ALL {
            for lengths in [false, true] {
                check(Rnn { lengths, ..layer(cell, direction) });
            }
        }
    }
}

#[test]
fn options() {
    check(Rnn { linear_before_reset: true, ..layer(Cell::Gru, Direction::Both) });
    check(Rnn { input_forget: true, ..layer(Cell::Lstm, Direction::Both) });
    for &cell in Cell::ALL {
        check(Rnn { clip: Real(0.25), ..layer(cell, Direction::Forward) });
    }
}

#[test]
fn ended_rows_keep_their_state() {
    let op = Rnn { lengths: true, ..layer(Cell::Gru, Direction::Forward) };
    let operands = operands(&op);
    let y = op.eval(&operands, &EvalCx { symbols: &|_| None }).unwrap();
    // Row 1 has no steps, row 2 has two.
    let (all, last, h0) = (y[0].to_f32(), y[1].to_f32(), operands[4].to_f32());
    assert_eq!(last[H..2 * H], h0[H..2 * H]);
    let step = |t: usize, n: usize| &all[(t * N + n) * H..][..H];
    assert_eq!(step(1, 2), &last[2 * H..]);
    assert_eq!([step(0, 1), step(2, 2), step(3, 2)], [&[0.0; H]; 3]);
}

#[test]
fn lengths_are_checked() {
    let op = Rnn { lengths: true, ..layer(Cell::Plain, Direction::Forward) };
    let mut operands = operands(&op);
    operands[5] = Tensor::from_consts(DType::I32, vec![N], [4, 5, 2].map(|x| Const::int(DType::I32, x)));
    let error = op.eval(&operands, &EvalCx { symbols: &|_| None }).unwrap_err();
    assert_eq!(error.0, "length 5 of row 1 is outside 0..=4");
}

#[test]
fn narrow_floats_keep_a_wide_state() {
    let op = layer(Cell::Plain, Direction::Forward);
    let op = Rnn { activations: vec![Activation::Affine], alpha: vec![Real(1.0)], ..op };
    let half = |shape: &[usize], x: &[f64]| {
        Tensor::from_consts(DType::F16, shape.to_vec(), x.iter().map(|&x| Const::number(DType::F16, x)))
    };
    // 2048 + 1 + 1: lost step by step if the state were f16.
    let op = Rnn { hidden: 1, ..op };
    let operands = [
        half(&[2, 1, 1], &[1.0, 1.0]),
        half(&[1, 1, 1], &[1.0]),
        half(&[1, 1, 1], &[1.0]),
        half(&[1, 2], &[0.0, 0.0]),
        half(&[1, 1, 1], &[2048.0]),
    ];
    let y = op.eval(&operands, &EvalCx { symbols: &|_| None }).unwrap();
    assert_eq!((y[0].to_f32(), y[1].to_f32()), (vec![2048.0, 2050.0], vec![2050.0]));
}
