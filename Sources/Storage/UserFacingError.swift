/// The kind of a failure; programs choose their exit status by it, and batches the error code of a record.
public enum ErrorCategory: Sendable, CaseIterable {
  /// Options that do not fit each other, the model or the prompt.
  case usage
  /// The content of a request or record.
  case input
  /// A model directory or one of its files.
  case model
  /// An image, another file, a disk, or memory.
  case resource
  /// A defect of the program, or numbers that no answer can be made from.
  case `internal`
}

/// An error that is written for the user of a program or of the library.
///
/// `description` is one line: the thing, what was expected and found, and the remedy. A program spells remedies as
/// its options with `message(spelling:)`.
public protocol UserFacingError: Error, CustomStringConvertible {
  var category: ErrorCategory { get }
  /// One line without the remedies.
  var problem: String { get }
  /// Alternative remedies; empty if `problem` contains the remedy.
  var remedies: [Remedy] { get }
}

extension UserFacingError {
  public var remedies: [Remedy] { [] }

  public var description: String { message(spelling: \.description) }

  /// The problem and its remedies on one line.
  public func message(spelling: (Remedy) -> String) -> String {
    remedies.isEmpty ? problem : problem + "; " + remedies.map(spelling).joined(separator: ", or ")
  }
}

/// A change by the user that removes an error.
public enum Remedy: Equatable, Hashable, Sendable, CustomStringConvertible {
  case visionTower
  case omitVisionTower(String)
  /// Name the GGUF file of the vision encoder.
  case mmproj
  case omitMMProj(String)
  case imageMode([String])
  case addImage
  case removePlaceholder
  case shortenPrompt
  case raiseContextLength
  case chatTemplate
  case omitSystemPrompt
  /// Leave out the mark that the prompt is in the chat template already.
  case omitRendered
  /// Drop after these layers.
  case dropLayers([Int], method: String)
  /// A memory limit of this number of GiB, such as `1.25`.
  case memoryLimit(gibibytes: String)
  case maxTokens(Int)
  /// At least this many new tokens.
  case raiseMaxTokens(Int)
  /// A smaller data type of the KV cache.
  case cacheType(String)
  /// PyramidDrop, with another keep ratio than the default if one is given.
  case pyramidDrop(lambda: Double?)
  case resume
  case overwrite
  case freeSpaceAndResume
  case otherOutput
  case makeReference
  case referenceFolder

  /// In the library's words.
  public var description: String {
    switch self {
    case .visionTower: "set Options.visionTower to its directory (config.json and weights)"
    case .omitVisionTower: "leave Options.visionTower at nil"
    case .mmproj: "set Options.mmproj to the vision encoder's file"
    case .omitMMProj: "leave Options.mmproj at nil"
    case .imageMode(let modes): "use \(Self.list(modes))"
    case .addImage: "give an image"
    case .removePlaceholder: "remove <image>"
    case .shortenPrompt: "shorten it"
    case .raiseContextLength: "raise GenerationOptions.contextLength"
    case .chatTemplate: "set Options.template"
    case .omitSystemPrompt: "leave Request.systemPrompt at nil"
    case .omitRendered: "give messages instead"
    case .dropLayers(let layers, _): "dropping after layer \(Self.list(layers.map(String.init), last: "and")) meets it"
    case .memoryLimit(let gibibytes): "allow \(gibibytes) GiB"
    case .maxTokens(let count): "generate at most \(count) tokens"
    case .raiseMaxTokens(let count): "allow \(count) tokens or more"
    case .cacheType(let type): "keep the KV cache in \(type)"
    case .pyramidDrop(nil): "use PyramidDrop"
    case .pyramidDrop(let lambda?): "use PyramidDrop with λ=\(lambda)"
    case .resume: "resume after them"
    case .overwrite: "overwrite them"
    case .freeSpaceAndResume: "free space and resume"
    case .otherOutput: "give another output file"
    case .makeReference: "make some with Models/make_reference.py"
    case .referenceFolder: "name their folder"
    }
  }

  /// Such as `pad, crop or auto`.
  public static func list(_ words: [String], last: String = "or") -> String {
    words.count < 2 ? words.joined() : words.dropLast().joined(separator: ", ") + " \(last) \(words[words.count - 1])"
  }
}

extension StringProtocol {
  /// The text for a message, in quotation marks on one line: at most 60 characters, then `…`; control characters and
  /// quotation marks are escaped.
  ///
  /// Messages quote untrusted text through this property only, so that a hostile value cannot fill a terminal or a log.
  package var excerpt: String {
    // A character can have any number of scalars, so scalars are counted.
    let start = String(String.UnicodeScalarView(unicodeScalars.prefix(60)))
    return unicodeScalars.dropFirst(60).isEmpty ? start.debugDescription : start.debugDescription.dropLast() + "…\""
  }

  /// The path for a message, on one line: control characters are escaped, and a path of more than 240 characters is
  /// cut in the middle, because its end names the file.
  package var pathExcerpt: String {
    let scalars = unicodeScalars
    guard !scalars.dropFirst(240).isEmpty else { return Self.escaped(scalars) }
    return Self.escaped(scalars.prefix(120)) + "…" + Self.escaped(scalars.suffix(119))
  }

  private static func escaped(_ scalars: some Sequence<Unicode.Scalar>) -> String {
    scalars.reduce(into: "") { text, scalar in
      let category = scalar.properties.generalCategory
      if [.control, .lineSeparator, .paragraphSeparator].contains(category) || scalar.properties.isBidiControl {
        text += scalar.escaped(asASCII: true)
      } else {
        text.unicodeScalars.append(scalar)
      }
    }
  }
}
