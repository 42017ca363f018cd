//! Small programs with the structure of well-known networks, for engines too slow for the networks themselves.

use std::fmt::Write;

use xlac_ir::graph::Program;

/// A program in text form, under construction. Values are named by their number.
struct Net {
    inputs: Vec<String>,
    body: String,
    next: usize,
}

impl Net {
    fn new() -> Net { Net { inputs: Vec::new(), body: String::new(), next: 0 } }

    fn input(&mut self, ty: &str) -> String {
        let name = format!("%x{}", self.inputs.len());
        self.inputs.push(format!("{name}: {ty}"));
        name
    }

    fn node(&mut self, op: &str, ty: &str) -> String {
        let name = format!("%v{}", self.next);
        self.next += 1;
        writeln!(self.body, "  {name} = {op} : {ty}").expect("a string grows");
        name
    }

    fn weight(&mut self, ty: &str) -> String {
        let name = format!("weight @w{}", self.next);
        self.node(&name, ty)
    }

    /// `op` of a value and a weight that is broadcast.
    fn with_weight(&mut self, op: &str, x: &str, weight: &str, ty: &str) -> String {
        let w = self.weight(weight);
        let shape = ty.split_once('[').map_or("", |t| t.1).trim_end_matches(']');
        let wide = self.node(&format!("broadcast {w} {{shape = [{shape}]}}"), ty);
        self.node(&format!("{op} {x}, {wide}"), ty)
    }

    fn finish(self, output: &str) -> Program {
        let text =
            format!("graph @skeleton({}) -> ({output}) {{\n{}  yield {output}\n}}\n", self.inputs.join(", "), self.body);
        let program = xlac_ir::text::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        xlac_ir::verify::verify(&program).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
        program
    }

    /// A convolution with scale and shift; pictures are square, of batch `N`.
    fn conv(&mut self, x: &str, (from, to): (usize, usize), (kernel, stride): (usize, usize), size: usize) -> String {
        let pad = kernel / 2;
        let ty = format!("f32[N, {to}, {size}, {size}]");
        let w = self.weight(&format!("f32[{to}, {from}, {kernel}, {kernel}]"));
        let attrs = format!(
            "{{strides = [{stride}, {stride}], before = [{pad}, {pad}], after = [{pad}, {pad}], dilations = [1, 1], groups = 1, out = f32}}"
        );
        let y = self.node(&format!("conv {x}, {w} {attrs}"), &ty);
        let y = self.with_weight("mul", &y, &format!("f32[{to}, 1, 1]"), &ty);
        self.with_weight("add", &y, &format!("f32[{to}, 1, 1]"), &ty)
    }

    fn relu(&mut self, x: &str, ty: &str) -> String {
        let shape = ty.split_once('[').map_or("", |t| t.1).trim_end_matches(']');
        let zero = self.node("constant {dtype = f32, shape = [], bits = [0]}", "f32[]");
        let wide = self.node(&format!("broadcast {zero} {{shape = [{shape}]}}"), ty);
        self.node(&format!("max {x}, {wide}"), ty)
    }

    fn linear(&mut self, x: &str, (from, to): (usize, usize), rows: &str) -> String {
        let ty = format!("f32[{rows}, {to}]");
        let w = self.weight(&format!("f32[{from}, {to}]"));
        let y = self.node(&format!("matmul {x}, {w} {{trans_a = false, trans_b = false, out = f32}}"), &ty);
        self.with_weight("add", &y, &format!("f32[{to}]"), &ty)
    }

    /// A reduction over the last axis, broadcast back.
    fn over_row(&mut self, f: &str, x: &str, lead: &str, n: &str) -> String {
        let row = self.node(&format!("reduce {x} {{f = {f}, axes = [{}]}}", lead.split(',').count()), &format!("f32[{lead}, 1]"));
        self.node(&format!("broadcast {row} {{shape = [{lead}, {n}]}}"), &format!("f32[{lead}, {n}]"))
    }

    fn softmax(&mut self, x: &str, lead: &str, n: &str) -> String {
        let ty = format!("f32[{lead}, {n}]");
        let largest = self.over_row("max", x, lead, n);
        let shifted = self.node(&format!("sub {x}, {largest}"), &ty);
        let e = self.node(&format!("exp {shifted}"), &ty);
        let total = self.over_row("sum", &e, lead, n);
        self.node(&format!("div {e}, {total}"), &ty)
    }

    fn layer_norm(&mut self, x: &str, lead: &str, n: usize) -> String {
        let ty = format!("f32[{lead}, {n}]");
        let count = self.node(&format!("constant {{dtype = f32, shape = [], bits = [{}]}}", (n as f32).to_bits()), "f32[]");
        let count = self.node(&format!("broadcast {count} {{shape = [{lead}, {n}]}}"), &ty);
        let sum = self.over_row("sum", x, lead, &n.to_string());
        let mean = self.node(&format!("div {sum}, {count}"), &ty);
        let centred = self.node(&format!("sub {x}, {mean}"), &ty);
        let square = self.node(&format!("mul {centred}, {centred}"), &ty);
        let sum = self.over_row("sum", &square, lead, &n.to_string());
        let spread = self.node(&format!("div {sum}, {count}"), &ty);
        let spread = self.with_weight("max", &spread, "f32[1]", &ty);
        let spread = self.node(&format!("abs {spread}"), &ty);
        let spread = self.node(&format!("sqrt {spread}"), &ty);
        let x = self.node(&format!("div {centred}, {spread}"), &ty);
        let x = self.with_weight("mul", &x, &format!("f32[{n}]"), &ty);
        self.with_weight("add", &x, &format!("f32[{n}]"), &ty)
    }

    /// Heads apart: `[rows.., width]` to `[N, heads, length, width / heads]`.
    fn heads(&mut self, x: &str, heads: usize, length: &str, width: usize) -> String {
        let each = width / heads;
        let x = self.node(&format!("reshape {x} {{shape = [N, {length}, {heads}, {each}]}}"), &format!("f32[N, {length}, {heads}, {each}]"));
        self.node(&format!("transpose {x} {{perm = [0, 2, 1, 3]}}"), &format!("f32[N, {heads}, {length}, {each}]"))
    }

    /// Attention over `length` positions, after `past` ones whose keys and values are inputs, each position seeing those
    /// before it if there is a past.
    fn attention(&mut self, x: &str, heads: usize, length: &str, width: usize, past: Option<&str>) -> String {
        let each = width / heads;
        let rows = format!("N, {length}");
        let [q, k, v] = [0; 3].map(|_| {
            let y = self.linear(x, (width, width), &rows);
            self.heads(&y, heads, length, width)
        });
        let total = past.map_or(length.to_string(), |p| format!("{p} + {length}"));
        let [k, v] = [k, v].map(|y| match past {
            None => y,
            Some(past) => {
                let before = self.input(&format!("f32[N, {heads}, {past}, {each}]"));
                self.node(&format!("concat {before}, {y} {{axis = 2}}"), &format!("f32[N, {heads}, {total}, {each}]"))
            }
        });
        let lead = format!("N, {heads}, {length}");
        let ty = format!("f32[{lead}, {total}]");
        let mut scores = self.node(&format!("matmul {q}, {k} {{trans_a = false, trans_b = true, out = f32}}"), &ty);
        if let Some(past) = past {
            scores = self.masked(&scores, &lead, length, past, &total);
        }
        let p = self.softmax(&scores, &lead, &total);
        let y = self.node(&format!("matmul {p}, {v} {{trans_a = false, trans_b = false, out = f32}}"), &format!("f32[{lead}, {each}]"));
        let y = self.node(&format!("transpose {y} {{perm = [0, 2, 1, 3]}}"), &format!("f32[N, {length}, {heads}, {each}]"));
        let y = self.node(&format!("reshape {y} {{shape = [N, {length}, {width}]}}"), &format!("f32[N, {length}, {width}]"));
        self.linear(&y, (width, width), &rows)
    }

    /// Scores with those of later positions far below the others.
    fn masked(&mut self, scores: &str, lead: &str, length: &str, past: &str, total: &str) -> String {
        let square = format!("{length}, {total}");
        let count = |net: &mut Net, n: &str, shape: &str| {
            let i = net.node(&format!("iota {{n = [{n}], dtype = i64}}"), &format!("i64[{n}]"));
            net.node(&format!("reshape {i} {{shape = [{shape}]}}"), &format!("i64[{shape}]"))
        };
        let row = count(self, length, &format!("{length}, 1"));
        let column = count(self, total, &format!("1, {total}"));
        let start = self.node(&format!("dims {{dims = [{past}], scalar = true}}"), "i64[]");
        let start = self.node(&format!("broadcast {start} {{shape = [{length}, 1]}}"), &format!("i64[{length}, 1]"));
        let last = self.node(&format!("add {row}, {start}"), &format!("i64[{length}, 1]"));
        let last = self.node(&format!("broadcast {last} {{shape = [{square}]}}"), &format!("i64[{square}]"));
        let column = self.node(&format!("broadcast {column} {{shape = [{square}]}}"), &format!("i64[{square}]"));
        let seen = self.node(&format!("le {column}, {last}"), &format!("bool[{square}]"));
        let seen = self.node(&format!("broadcast {seen} {{shape = [{lead}, {total}]}}"), &format!("bool[{lead}, {total}]"));
        let low = self.node(&format!("constant {{dtype = f32, shape = [], bits = [{}]}}", (-1e9f32).to_bits()), "f32[]");
        let low = self.node(&format!("broadcast {low} {{shape = [{lead}, {total}]}}"), &format!("f32[{lead}, {total}]"));
        self.node(&format!("select {seen}, {scores}, {low}"), &format!("f32[{lead}, {total}]"))
    }

    /// A layer of an encoder or decoder.
    fn layer(&mut self, x: &str, heads: usize, length: &str, width: usize, past: Option<&str>) -> String {
        let rows = format!("N, {length}");
        let ty = format!("f32[{rows}, {width}]");
        let y = self.layer_norm(x, &rows, width);
        let y = self.attention(&y, heads, length, width, past);
        let x = self.node(&format!("add {x}, {y}"), &ty);
        let y = self.layer_norm(&x, &rows, width);
        let y = self.linear(&y, (width, 2 * width), &rows);
        let wide = format!("f32[{rows}, {}]", 2 * width);
        let gate = self.node(&format!("erf {y}"), &wide);
        let y = self.node(&format!("mul {y}, {gate}"), &wide);
        let y = self.linear(&y, (2 * width, width), &rows);
        self.node(&format!("add {x}, {y}"), &ty)
    }
}

/// A residual network: stem, pooling, blocks with and without a shortcut of their own, average, classes.
pub fn resnet() -> Program {
    let mut net = Net::new();
    let x = net.input("f32[N, 3, 20, 20]");
    let x = net.conv(&x, (3, 16), (7, 2), 10);
    let x = net.relu(&x, "f32[N, 16, 10, 10]");
    let pool = "{f = max, kernel = [3, 3], strides = [2, 2], before = [1, 1], after = [1, 1], dilations = [1, 1], sizes = [5, 5]}";
    let mut x = net.node(&format!("pool {x} {pool}"), "f32[N, 16, 5, 5]");
    let mut channels = 16;
    for (inner, stride, size) in [(8, 1, 5), (8, 1, 5), (16, 2, 3)] {
        let before = if stride == 2 { 5 } else { size };
        let ty = |c: usize, s: usize| format!("f32[N, {c}, {s}, {s}]");
        let y = net.conv(&x, (channels, inner), (1, 1), before);
        let y = net.relu(&y, &ty(inner, before));
        let y = net.conv(&y, (inner, inner), (3, stride), size);
        let y = net.relu(&y, &ty(inner, size));
        let y = net.conv(&y, (inner, 4 * inner), (1, 1), size);
        let short = if channels == 4 * inner { x } else { net.conv(&x, (channels, 4 * inner), (1, stride), size) };
        let sum = net.node(&format!("add {y}, {short}"), &ty(4 * inner, size));
        x = net.relu(&sum, &ty(4 * inner, size));
        channels = 4 * inner;
    }
    let x = net.node(&format!("reduce {x} {{f = sum, axes = [2, 3]}}"), &format!("f32[N, {channels}, 1, 1]"));
    let x = net.node(&format!("reshape {x} {{shape = [N, {channels}]}}"), &format!("f32[N, {channels}]"));
    let y = net.linear(&x, (channels, 10), "N");
    net.finish(&y)
}

/// A vision transformer: patches, positions, two layers, classes from the first position.
pub fn vit() -> Program {
    let mut net = Net::new();
    let x = net.input("f32[N, 3, 12, 12]");
    let w = net.weight("f32[32, 3, 4, 4]");
    let attrs = "{strides = [4, 4], before = [0, 0], after = [0, 0], dilations = [1, 1], groups = 1, out = f32}";
    let x = net.node(&format!("conv {x}, {w} {attrs}"), "f32[N, 32, 3, 3]");
    let x = net.node(&format!("reshape {x} {{shape = [N, 32, 9]}}"), "f32[N, 32, 9]");
    let x = net.node(&format!("transpose {x} {{perm = [0, 2, 1]}}"), "f32[N, 9, 32]");
    let mut x = net.with_weight("add", &x, "f32[9, 32]", "f32[N, 9, 32]");
    for _ in 0..2 {
        x = net.layer(&x, 4, "9", 32, None);
    }
    let x = net.node(&format!("slice {x} {{starts = [0, 0, 0], steps = [1, 1, 1], sizes = [N, 1, 32]}}"), "f32[N, 1, 32]");
    let y = net.linear(&x, (32, 7), "N, 1");
    net.finish(&y)
}

/// A decoder: embeddings, two layers with a past, the next word's scores.
pub fn gpt2() -> Program {
    let mut net = Net::new();
    let words = net.input("i64[N, T]");
    let table = net.weight("f32[50, 24]");
    let bound = net.node("constant {dtype = i64, shape = [], bits = [50]}", "i64[]");
    let bound = net.node(&format!("broadcast {bound} {{shape = [N, T]}}"), "i64[N, T]");
    // Whatever was drawn becomes a word.
    let words = net.node(&format!("mod {words}, {bound}"), "i64[N, T]");
    let mut x = net.node(&format!("gather {table}, {words} {{axis = 0}}"), "f32[N, T, 24]");
    for _ in 0..2 {
        x = net.layer(&x, 3, "T", 24, Some("P"));
    }
    let y = net.linear(&x, (24, 50), "N, T");
    net.finish(&y)
}
