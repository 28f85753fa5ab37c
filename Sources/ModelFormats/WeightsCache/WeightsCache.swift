package import Kernels

#if canImport(FoundationEssentials)
  internal import FoundationEssentials
#else
  internal import Foundation
#endif

/// Converted weights of a model, kept in a file from one start of the program to the next.
///
/// A folder has one file for each model directory and choice of arithmetic, named after both. Where the file is there and fits,
/// weights are mapped from it; where not, they are converted as without a cache, and the file is made anew. Answers do not
/// depend on which. Nothing that is wrong with the file or its folder is an error: the outcome tells.
package final class WeightsCache {
  /// What became of the cache while a model was loaded.
  package enum Outcome: Equatable, Sendable {
    /// All weights are used as they are stored.
    case notNeeded
    case used(file: String, byteCount: Int)
    case written(file: String, byteCount: Int, because: WeightsCacheFault)
    /// Another process is writing the file.
    case leftToAnother(file: String)
    case failed(FileError)
  }

  private let directory: String
  private let path: String
  private let sources: [Checkpoint]
  private let workers: Workers
  private lazy var key = SharedBytes.checksum(of: sources.map(\.contentKey).joined(separator: "\n"))
  private lazy var file = Result { () throws(WeightsCacheFault) in
    try WeightsCacheFile(path, key: key, workers: workers)
  }
  private var weights: [(name: String, weight: Linear.Weight)] = []
  /// Why weights had to be converted; `nil` as long as none had to.
  private var fault: WeightsCacheFault?

  /// - Parameters:
  ///   - directory: Where the files are kept; made when there is something to keep.
  ///   - sources: The checkpoints that the weights come from, the model's own first.
  ///   - arithmetic: What the file is for, as a part of its name.
  ///   - workers: Compute checksums in parallel.
  package init(directory: String, sources: [Checkpoint], arithmetic: String, workers: Workers) {
    let places = sources.map { URL(filePath: $0.directory).standardizedFileURL.resolvingSymlinksInPath().path }
    let model = URL(filePath: places.first ?? "").lastPathComponent.unicodeScalars.prefix(40)
    let name = "\(String(model))-\(arithmetic)-\(SharedBytes.checksum(of: places.joined(separator: "\n"))).safetensors"
    self.directory = directory
    self.path = directory + "/" + name
    self.sources = sources
    self.workers = workers
  }

  /// A layer over its weight from the file, or converted for it.
  func converted(_ stored: Linear, named name: String, to arithmetic: Arithmetic) -> Linear {
    let converted: Linear
    if let kept = kept(name, for: arithmetic, like: stored) {
      converted = stored.with(kept)
    } else {
      converted = stored.converted(to: arithmetic, workers: workers)
    }
    weights.append((name, converted.weight))
    return converted
  }

  private func kept(_ name: String, for arithmetic: Arithmetic, like stored: Linear) -> Linear.Weight? {
    do throws(WeightsCacheFault) {
      let file = try file.get()
      if let weight = file.weight(name, for: arithmetic, outputs: stored.outputSize, inputs: stored.inputSize) {
        return weight
      }
      fault = .damaged("it has no '\(name)' in \(arithmetic.rawValue)")
    } catch {
      fault = error
    }
    return nil
  }

  /// Writes the file if weights had to be converted; to be called when all are loaded.
  package func finish() -> Outcome {
    guard !weights.isEmpty else { return .notNeeded }
    guard let fault else { return .used(file: path, byteCount: (try? file.get().byteCount) ?? 0) }
    do throws(FileError) {
      do { try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true) } catch {
        throw .unwritable(path: directory, reason: "no folder, and none can be made there")
      }
      guard let count = try WeightsCacheFile.write(weights, key: key, to: path, workers: workers) else {
        return .leftToAnother(file: path)
      }
      return .written(file: path, byteCount: count, because: fault)
    } catch {
      return .failed(error)
    }
  }
}

extension WeightsCache.Outcome: CustomStringConvertible {
  package var description: String {
    switch self {
    case .notNeeded: "not needed, all weights are used as they are stored"
    case .used(let file, let bytes): "used \(file), \(bytes / 1_000_000) MB"
    case .written(let file, let bytes, let fault): "wrote \(file), \(bytes / 1_000_000) MB, as \(fault)"
    case .leftToAnother(let file): "another process is writing \(file)"
    case .failed(let error): "\(error); going on without"
    }
  }
}
