extension KeptMap {
  /// The panels as one picture: all tokens, then each stage with what it dropped dimmed.
  ///
  /// - Parameter showsScores: Whether each patch has the colour of its score, kept ones an outline.
  public func painted(showsScores: Bool = false) -> Image {
    let panel = KeptMapPanel(self)
    let columns = panel.columns(of: 1 + stages.count)
    let rows = (stages.count + columns) / columns
    let step = (across: panel.width + 2 * KeptMapPanel.gap, down: panel.height + 2 * KeptMapPanel.gap)
    var sheet = Sheet(
      width: columns * step.across - 2 * KeptMapPanel.gap, height: rows * step.down - 2 * KeptMapPanel.gap)
    for (index, stage) in ([nil] + stages.map(Optional.some)).enumerated() {
      paint(
        stage, showsScores: showsScores, panel, on: &sheet, left: index % columns * step.across,
        top: index / columns * step.down)
    }
    return sheet.image
  }

  /// Paints a panel; `nil` for all tokens.
  private func paint(
    _ stage: Stage?, showsScores: Bool, _ panel: KeptMapPanel, on sheet: inout Sheet, left: Int, top: Int
  ) {
    for (region, box) in zip(regions, panel.regions) { sheet.paste(region.image, left: left + box.x, top: top + box.y) }
    let scale = showsScores ? stage.flatMap(HeatScale.init) : nil
    for index in places.indices {
      guard let place = places[index], var box = panel.tokens[index] else { continue }
      (box.x, box.y) = (box.x + left, box.y + top)
      if place.column == regions[place.region].columns { sheet.tint(box, KeptMapColors.newline, opacity: 1) }
      guard let token = stage?.tokens[index] else { continue }
      if let scale, let score = token.score {
        sheet.tint(box, KeptMapColors.heat(scale.share(score)), opacity: KeptMapColors.heatOpacity)
        if token.isKept { sheet.outline(box, KeptMapColors.outline) }
      } else if !token.isKept {
        sheet.tint(box, KeptMapColors.dimming, opacity: KeptMapColors.dimmingOpacity)
      }
    }
  }
}

extension Image {
  /// Pictures below each other, with room between them; the wider ones say how wide the whole is.
  public static func stacked(_ images: [Image]) -> Image {
    precondition(!images.isEmpty, "stacked: no picture")
    let gap = 3 * KeptMapPanel.gap
    var sheet = Sheet(
      width: images.map(\.width).max() ?? 1, height: images.reduce(-gap) { $0 + $1.height + gap })
    var top = 0
    for image in images {
      sheet.paste(image, left: 0, top: top)
      top += image.height + gap
    }
    return sheet.image
  }
}

/// A picture under construction on a plain background.
private struct Sheet {
  let width: Int
  let height: Int
  private var pixels: [UInt8]

  init(width: Int, height: Int) {
    (self.width, self.height) = (width, height)
    pixels = []
    pixels.reserveCapacity(3 * width * height)
    for _ in 0..<width * height { pixels += KeptMapColors.background.samples }
  }

  mutating func paste(_ image: Image, left: Int, top: Int) {
    for y in 0..<image.height {
      let target = 3 * ((top + y) * width + left)
      let row = 3 * y * image.width..<3 * (y + 1) * image.width
      pixels.replaceSubrange(target..<target + row.count, with: image.pixels[row])
    }
  }

  mutating func tint(_ box: KeptMapPanel.Box, _ color: Color, opacity: Double) {
    let samples = color.samples
    for y in box.y..<box.y + box.height {
      for x in box.x..<box.x + box.width {
        let pixel = 3 * (y * width + x)
        for channel in 0..<3 { pixels[pixel + channel] = mix(pixels[pixel + channel], samples[channel], opacity) }
      }
    }
  }

  mutating func outline(_ box: KeptMapPanel.Box, _ color: Color) {
    let (right, bottom) = (box.x + box.width - 1, box.y + box.height - 1)
    tint(KeptMapPanel.Box(x: box.x, y: box.y, width: box.width, height: 1), color, opacity: 1)
    tint(KeptMapPanel.Box(x: box.x, y: bottom, width: box.width, height: 1), color, opacity: 1)
    tint(KeptMapPanel.Box(x: box.x, y: box.y, width: 1, height: box.height), color, opacity: 1)
    tint(KeptMapPanel.Box(x: right, y: box.y, width: 1, height: box.height), color, opacity: 1)
  }

  var image: Image {
    guard let image = try? Image(width: width, height: height, pixels: pixels) else {
      preconditionFailure("a sheet of \(width) x \(height) is no picture")
    }
    return image
  }
}
