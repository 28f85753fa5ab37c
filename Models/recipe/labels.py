"""Dense labels for the vision tower: what is in each 14x14 patch."""
import numpy as np
from vocabulary import CHARACTER_ID, COLOR_NAMES, MAX_WORD, PATCH, SHAPES

L_TYPE, L_COL, L_CONT, L_CNT, L_CH, L_IDX, L_SLOT, L_PART = 0, 1, 2, 3, 4, 5, 6, 6 + MAX_WORD
N_LAB = 6 + 2 * MAX_WORD
# type: 0 background, 1 word, 2 number, 3.. shapes; colour: index in COLOR_NAMES; cont: 0 none, 1.. shape


def patch_labels(s):
    """What each patch of a scene shows.

    Returns labels, uint8 [N_LAB, g, g], 255 where a plane does not apply, and owner, int16 [g, g]: the thing that a
    patch belongs to (texts first, then shapes), -1 for the ground.
    """
    g = s.g
    owner = np.full((g, g), -1, np.int16)
    L = np.zeros((N_LAB, g, g), np.uint8)
    L[L_COL:] = 255
    ids = np.asarray(s.ids).reshape(g, PATCH, g, PATCH)
    if s.shapes:
        n = len(s.shapes)
        frac = np.stack([(ids == k + 1).mean((1, 3)) for k in range(n)])
        own = frac.argmax(0)
        m = frac.max(0) > 0.2
        cnt = {k: sum(q["shape"] == k for q in s.shapes) for k in SHAPES}
        for k, q in enumerate(s.shapes):
            mm = m & (own == k)
            owner[mm] = len(s.texts) + k
            L[L_TYPE][mm] = 3 + SHAPES.index(q["shape"])
            L[L_COL][mm] = COLOR_NAMES.index(q["color"])
            L[L_CNT][mm] = min(cnt[q["shape"]], 6)
            if q["text"]:
                L[L_CONT][mm] = 1 + SHAPES.index(q["shape"])
                for i in range(MAX_WORD):
                    L[L_SLOT + i][mm] = CHARACTER_ID[q["text"][i]] if i < len(q["text"]) else 0
    best = np.zeros((g, g))
    gx = np.arange(g) * PATCH
    for thing, t in enumerate(s.texts):
        x0, y0, x1, y1 = t["box"]
        ox = np.clip(np.minimum(gx + PATCH, x1) - np.maximum(gx, x0), 0, None) / PATCH
        oy = np.clip(np.minimum(gx + PATCH, y1) - np.maximum(gx, y0), 0, None) / PATCH
        ov = oy[:, None] * ox[None]
        mm = (ov > 0.14) & (ov > best)
        best = np.where(mm, ov, best)
        owner[mm] = thing
        L[L_TYPE][mm] = 2 if t["num"] else 1
        L[L_COL][mm] = COLOR_NAMES.index(t["color"])
        L[L_CONT][mm] = 1 + SHAPES.index(t["cont"]) if t["cont"] else 0
        L[L_CNT][mm] = 255
        idx = np.clip(np.searchsorted(np.array(t["edges"][1:-1]), gx + PATCH / 2, side="right"), 0, len(t["text"]) - 1)
        ci = np.array([CHARACTER_ID[c] for c in t["text"]])[idx]
        L[L_CH][mm] = np.broadcast_to(ci[None], (g, g))[mm]
        L[L_IDX][mm] = np.broadcast_to(idx[None], (g, g))[mm]
        for i in range(MAX_WORD):
            L[L_SLOT + i][mm] = CHARACTER_ID[t["text"][i]] if i < len(t["text"]) else 0
            if s.pairs and t["part"]:
                L[L_PART + i][mm] = CHARACTER_ID[t["part"][i]] if i < len(t["part"]) else 0
    return L, owner
