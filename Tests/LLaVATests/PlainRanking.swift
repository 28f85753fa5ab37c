import Foundation
import Kernels
import LLaVA
import ModelFormats
import TestSupport
import TokenDropping

/// The rankings by their definitions in double precision, from the rows before the scoring layer and its weights.
struct PlainRanking {
  private let heads: HeadLayout
  /// Before RoPE, `[row][column]`.
  private let queries: [[Double]]
  private let keys: [[Double]]
  private let values: [[Double]]
  private let theta: Double

  /// - Parameter rows: The rows before the layer, `[T, D]`.
  init(_ test: TestModel, layer: Int, rows: [[Float]]) throws {
    let text = test.model.configuration.text
    let file = try Goldens.tensors("models/\(test.name)/model.safetensors")
    let scope = "language_model.model.layers.\(layer)."
    let weight = try file.doubles(scope + "input_layernorm.weight")
    let normalized = rows.map { row in
      let x = row.map(Double.init)
      let scale = 1 / (x.reduce(0) { $0 + $1 * $1 } / Double(x.count) + Double(text.rmsNormEpsilon)).squareRoot()
      return zip(x, weight).map { $0 * scale * $1 }
    }
    func projected(_ name: String, _ rows: [[Double]]) throws -> [[Double]] {
      let weight = try file.doubles("\(scope)self_attn.\(name).weight")
      return rows.map { row in
        (0..<weight.count / row.count).map { output in
          row.indices.reduce(0.0) { $0 + row[$1] * weight[output * row.count + $1] }
        }
      }
    }
    heads = text.heads
    theta = text.ropeTheta
    queries = try projected("q_proj", normalized.suffix(1))
    keys = try projected("k_proj", normalized)
    values = try projected("v_proj", normalized)
  }

  /// Scores of a range of rows, with the positions of all rows.
  func scores(_ ranking: Ranking, of rows: Range<Int>, positions: [Int]) -> [Double] {
    let all: [Double]
    switch ranking {
    case .attention: all = mean(probabilities(positions))
    case .attentionWithoutRotation: all = mean(probabilities(positions.map { _ in 0 }))
    case .attentionDebiased:
      let logarithms = scores(.attention, of: rows, positions: positions).map { log($0) }
      return residuals(logarithms)
    case .valueWeighted:
      let weights = probabilities(positions)
      all = mean(
        weights.indices.map { head in
          weights[head].indices.map { weights[head][$0] * norm(values[$0], keyValueHead(head)) }
        })
    case .keyNorm:
      all = keys.map { key in
        -(0..<heads.keyValueHeadCount).reduce(0.0) { $0 + norm(key, $1) } / Double(heads.keyValueHeadCount)
      }
    case .random, .uniform, .textRaters: return []
    }
    return Array(all[rows])
  }

  private func keyValueHead(_ head: Int) -> Int { head / (heads.headCount / heads.keyValueHeadCount) }

  private func norm(_ row: [Double], _ head: Int) -> Double {
    part(row, head).reduce(0) { $0 + $1 * $1 }.squareRoot()
  }

  private func part(_ row: [Double], _ head: Int) -> [Double] {
    Array(row[head * heads.headDimension..<(head + 1) * heads.headDimension])
  }

  /// `[head][row]`.
  private func probabilities(_ positions: [Int]) -> [[Double]] {
    (0..<heads.headCount).map { head in
      let query = rotated(part(queries[0], head), to: positions[positions.count - 1])
      let scores = keys.indices.map { row in
        let key = rotated(part(keys[row], keyValueHead(head)), to: positions[row])
        return zip(query, key).reduce(0.0) { $0 + $1.0 * $1.1 } / Double(heads.headDimension).squareRoot()
      }
      let powers = scores.map { exp($0 - (scores.max() ?? 0)) }
      let total = powers.reduce(0, +)
      return powers.map { $0 / total }
    }
  }

  private func rotated(_ x: [Double], to position: Int) -> [Double] {
    let half = x.count / 2
    return x.indices.map { i in
      let angle = Double(position) * pow(theta, -2 * Double(i % half) / Double(x.count))
      return i < half ? x[i] * cos(angle) - x[i + half] * sin(angle) : x[i] * cos(angle) + x[i - half] * sin(angle)
    }
  }

  private func mean(_ rows: [[Double]]) -> [Double] {
    rows[0].indices.map { i in rows.reduce(0) { $0 + $1[i] } / Double(rows.count) }
  }

  /// Residuals of the least-squares line, by its closed formula.
  private func residuals(_ y: [Double]) -> [Double] {
    let n = Double(y.count)
    let (meanX, meanY) = ((n - 1) / 2, y.reduce(0, +) / n)
    var (covariance, variance) = (0.0, 0.0)
    for (x, value) in y.enumerated() {
      covariance += (Double(x) - meanX) * (value - meanY)
      variance += (Double(x) - meanX) * (Double(x) - meanX)
    }
    return y.enumerated().map { $1 - meanY - covariance / variance * (Double($0) - meanX) }
  }
}

extension GoldenTensors {
  /// The values of a tensor of floats or bf16.
  fileprivate func doubles(_ name: String) throws -> [Double] {
    guard try elementName(name) == "BF16" else { return try floats(name).map(Double.init) }
    let bytes = try bytes(name)
    return stride(from: 0, to: bytes.count, by: 2).map { i in
      Double(Float(bitPattern: UInt32(bytes[i]) << 16 | UInt32(bytes[i + 1]) << 24))
    }
  }
}
