//! Operands of windows with their padding stored around them.

use super::*;

/// The operand of a window with its zeros stored around it, channels last.
pub fn padded(l: &mut Lowering, v: ValueId, before: &[Dim], after: &[Dim]) -> Place {
    let dtype = l.storage(l.g.ty(v).dtype);
    padded_with(l, v, before, after, Const::number(dtype, 0.0))
}

/// [`padded`] with another value than zero.
pub fn padded_with(l: &mut Lowering, v: ValueId, before: &[Dim], after: &[Dim], value: Const) -> Place {
    let place = l.access(v);
    // Windows read an element many times: what is stored narrow is widened once.
    let narrow = l.is_narrow(&place);
    if !narrow && before.iter().chain(after).all(|p| p.is(0)) {
        return place;
    }
    if let Some(view) = haloed(l, v, &place.view, before, after).filter(|_| value.bits == 0) {
        return Place { view, ..place };
    }
    let (room_before, room_after): (Vec<Dim>, Vec<Dim>) = before.iter().zip(after).map(|(b, a)| (room(b), room(a))).unzip();
    // Negative padding cuts: the windows start inside.
    let inside: Vec<Dim> = room_before.iter().zip(before).map(|(room, before)| room - before).collect();
    let cut = |view: &View| shift(view, &inside);
    if !narrow && room_before.iter().chain(&room_after).all(|p| p.is(0)) {
        return Place { view: cut(&place.view), ..place };
    }
    let whole = stored(l, v, &room_before, &room_after, value);
    Place { view: cut(&whole.view), ..whole }
}

/// A channels-last copy of a value with room around it.
pub(super) fn stored(l: &mut Lowering, v: ValueId, room_before: &[Dim], room_after: &[Dim], value: Const) -> Place {
    let ty = l.g.ty(v).clone();
    let mut shape = ty.shape.clone();
    for (i, (b, a)) in room_before.iter().zip(room_after).enumerate() {
        shape[2 + i] = &(&shape[2 + i] + b) + a;
    }
    let dtype = l.storage(ty.dtype);
    let buffer = l.buffer(Storage::Temp, bytes(&shape, dtype));
    let whole = Place { buffer, view: View::dense(&shape, Layout::ChannelsLast), dtype };
    map::border(l, &shape, &whole, (room_before, room_after), value);
    l.copy(v, &Place { view: shift(&whole.view, room_before), ..whole.clone() });
    whole
}

/// A view that starts further along the spatial axes.
fn shift(view: &View, by: &[Dim]) -> View {
    let offset = by.iter().enumerate().fold(view.offset.clone(), |sum, (i, by)| &sum + &(by * &view.strides[2 + i]));
    View { offset, strides: view.strides.clone() }
}

/// The elements to store for a padding: none for one that cuts.
fn room(padding: &Dim) -> Dim {
    if padding.as_const().is_some_and(|p| p < 0) { Dim::ZERO } else { padding.clone() }
}

/// The view of a value whose place already has enough zeros around it.
pub(super) fn haloed(l: &Lowering, v: ValueId, view: &View, before: &[Dim], after: &[Dim]) -> Option<View> {
    let halo = l.halo(v)?;
    let enough = |want: &[Dim], have: &[i64]| want.iter().zip(have).all(|(w, &h)| w.as_const().is_some_and(|w| w <= h));
    if !enough(before, &halo.before) || !enough(after, &halo.after) {
        return None;
    }
    let mut offset = view.offset.clone();
    for (s, b) in before.iter().enumerate() {
        offset = &offset - &(b * &view.strides[2 + s]);
    }
    Some(View { offset, strides: view.strides.clone() })
}
