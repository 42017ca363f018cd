//! Weights: large constants, kept outside of the graph behind handles.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::tensor::Tensor;

/// Handle of a weight: index into its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub u32);

/// One weight.
#[derive(Clone, Debug)]
pub struct Weight {
    /// ONNX initializer name, or one derived from it.
    pub name: Arc<str>,
    /// The data, usually a view of the mapped model file.
    pub tensor: Tensor,
    /// Hash of type and contents: equal weights share it.
    pub hash: u64,
}

/// The weights of a program.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    list: Vec<Weight>,
}

impl Weights {
    /// Adds a weight; one with the same contents is reused.
    pub fn add(&mut self, name: &str, tensor: Tensor) -> WeightId {
        let mut hasher = DefaultHasher::new();
        tensor.hash(&mut hasher);
        let hash = hasher.finish();
        let same = |w: &Weight| w.hash == hash && w.tensor == tensor;
        if let Some(i) = self.list.iter().position(same) {
            return WeightId(i as u32);
        }
        self.list.push(Weight { name: name.into(), tensor, hash });
        WeightId(self.list.len() as u32 - 1)
    }

    /// The weight behind a handle.
    pub fn get(&self, id: WeightId) -> &Weight { &self.list[id.0 as usize] }

    /// Forgets the data of weights that `keep` denies, so that folded originals do not stay in memory.
    pub fn release(&mut self, keep: impl Fn(WeightId) -> bool) {
        for (i, w) in self.list.iter_mut().enumerate() {
            if !keep(WeightId(i as u32)) {
                w.tensor = Tensor { dtype: w.tensor.dtype, shape: vec![0], data: Default::default() };
                w.hash = 0;
            }
        }
    }

    /// All of them, in handle order.
    pub fn iter(&self) -> impl Iterator<Item = (WeightId, &Weight)> {
        self.list.iter().enumerate().map(|(i, w)| (WeightId(i as u32), w))
    }

    /// Their number.
    pub fn len(&self) -> usize { self.list.len() }

    /// True without weights.
    pub fn is_empty(&self) -> bool { self.list.is_empty() }
}
