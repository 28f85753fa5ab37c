import LLaVA
import ModelFormats

extension LLaVAConfiguration {
  /// A picture to measure by: a square view, or a photograph of 640 x 480 for models that spread it over several.
  var pictureForMeasuring: (tokens: Int, views: Int) {
    let tiles = anyResolution.map { rules in
      AnyResolutionGeometry(PixelSize(height: 480, width: 640), rules).tiles
    }
    return (visualTokenCount(tiles), 1 + (tiles?.tileCount ?? 0))
  }
}
