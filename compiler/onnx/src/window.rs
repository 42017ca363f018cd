//! Windows over spatial axes, as convolutions and pools describe them: kernel, strides, dilations, padding.

use xlac_ir::dim::Dim;

use crate::fail::{Res, bail, ensure};
use crate::node::Node;

/// A window and where it is put.
pub struct Window {
    pub kernel: Vec<usize>,
    pub strides: Vec<usize>,
    pub dilations: Vec<usize>,
    /// Padding before each axis.
    pub before: Vec<Dim>,
    /// Padding after each axis.
    pub after: Vec<Dim>,
    /// Number of places on each axis.
    pub sizes: Vec<Dim>,
}

/// The kernel shape: given by the attribute, checked against the weights where there are any.
pub fn kernel(n: &Node, weights: Option<&[Dim]>, spatial: usize) -> Res<Vec<usize>> {
    let from_weights = match weights {
        None => None,
        Some(dims) => match dims.iter().map(|d| d.as_const().and_then(|d| usize::try_from(d).ok())).collect::<Option<Vec<_>>>() {
            Some(k) => Some(k),
            None => bail!(UNSUPPORTED_FORM, "the kernel has a size that is not known at import"),
        },
    };
    let given = match n.ints("kernel_shape")? {
        Some(_) => Some(n.sizes("kernel_shape", spatial, 1, 1)?),
        None => None,
    };
    match (given, from_weights) {
        (Some(k), Some(w)) if k != w => bail!(TYPES, "`kernel_shape` {k:?} differs from that of the weights, {w:?}"),
        (Some(k), _) | (None, Some(k)) => {
            ensure!(k.len() == spatial, TYPES, "a kernel of {} axes for {spatial} spatial axes", k.len());
            ensure!(!k.contains(&0), BAD_SIZE, "the kernel {k:?} is empty");
            Ok(k)
        }
        (None, None) => bail!(MISSING_ATTRIBUTE, "attribute `kernel_shape` is required"),
    }
}

/// The window of a node over spatial axes of these sizes.
pub fn window(n: &Node, spatial: &[Dim], kernel: Vec<usize>) -> Res<Window> {
    let rank = spatial.len();
    let strides = n.sizes("strides", rank, 1, 1)?;
    let dilations = n.sizes("dilations", rank, 1, 1)?;
    let reach: Vec<Dim> = (0..rank).map(|i| Dim::from(dilations[i] * (kernel[i] - 1) + 1)).collect();
    let ceil = n.flag("ceil_mode", false)?;
    let (mut before, mut after, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
    let auto = n.word("auto_pad", "NOTSET")?;
    let pads = match auto {
        "NOTSET" | "" => n.sizes("pads", 2 * rank, 0, 0)?,
        "VALID" | "SAME_UPPER" | "SAME_LOWER" => vec![0; 2 * rank],
        other => bail!(ATTRIBUTE_VALUE, "`auto_pad` cannot be `{other}`"),
    };
    for i in 0..rank {
        let stride = Dim::from(strides[i]);
        if auto.starts_with("SAME") {
            let size = spatial[i].ceil_div(&stride);
            let total = (&(&(&(&size - &Dim::ONE) * &stride) + &reach[i]) - &spatial[i]).at_least(&Dim::ZERO);
            let less = total.floor_div(&Dim::from(2i64));
            let more = &total - &less;
            let (b, a) = if auto == "SAME_UPPER" { (less, more) } else { (more, less) };
            before.push(b);
            after.push(a);
            sizes.push(size);
            continue;
        }
        before.push(Dim::from(pads[i]));
        after.push(Dim::from(pads[rank + i]));
        let room = &(&(&spatial[i] + &before[i]) + &after[i]) - &reach[i];
        let size = if ceil {
            // A window that would start in the padding at the end is left out.
            let last = &(&(&spatial[i] + &before[i]) - &Dim::ONE).floor_div(&stride) + &Dim::ONE;
            (&room.ceil_div(&stride) + &Dim::ONE).at_most(&last)
        } else {
            &room.floor_div(&stride) + &Dim::ONE
        };
        if size.as_const().is_some_and(|s| s < 0) {
            bail!(BAD_SIZE, "a window of {} elements does not fit axis {i} of size {}", reach[i], spatial[i]);
        }
        sizes.push(size);
    }
    Ok(Window { kernel, strides, dilations, before, after, sizes })
}
