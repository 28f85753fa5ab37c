import TestSupport
import Testing
import TokenDropping

@Suite struct ScheduleTests {
  @Test(arguments: [
    (576, [288, 144, 72]), (1176, [588, 294, 147]), (2340, [1170, 585, 292]), (2880, [1440, 720, 360]), (1, [0, 0, 0]),
    (0, [0, 0, 0]),
  ])
  func `the default schedule halves in four equal stages`(count: Int, kept: [Int]) throws {
    let stages = try PyramidDrop().stages(layerCount: 32, visualTokenCount: count)
    #expect(stages.map(\.keepCount) == kept)
    #expect(stages.map(\.afterLayer) == [8, 16, 24])
    #expect(stages.map(\.scoringLayer) == [8, 16, 24])
    #expect(stages.allSatisfy { $0.positions == .compact && $0.ranking == .attention })
  }

  @Test func `divides other depths into equal stages`() throws {
    #expect(try PyramidDrop().stages(layerCount: 40, visualTokenCount: 8).map(\.afterLayer) == [10, 20, 30])
    #expect(try PyramidDrop(.geometric(stages: 1)).stages(layerCount: 4, visualTokenCount: 8).isEmpty)
  }

  @Test(arguments: [(0.4, [0.4, 0.16, 0.064]), (0.5, [0.5, 0.25, 0.125]), (0.6, [0.6, 0.36, 0.216])])
  func `rounds powers of lambda to decimals`(lambda: Double, ratios: [Double]) throws {
    #expect(try StageSchedule.geometric(lambda: lambda).resolved(layerCount: 32).ratios == ratios)
  }

  @Test func `truncates the product of ratio and original count in Double`() throws {
    struct Table: Decodable {
      var rows: [[Double]]
    }
    for row in try Goldens.json("ops/keep_counts.json", as: Table.self).rows {
      let (count, ratio) = (Int(row[0]), row[1])
      let pyramid = try PyramidDrop(.listed(layers: [1], ratios: [ratio]))
        .stages(layerCount: 2, visualTokenCount: count)
      #expect(pyramid[0].keepCount == Int(row[2]), "int(\(count) · \(ratio))")
      let fastV = try FastV(k: 1, r: ratio).stages(layerCount: 2, visualTokenCount: count)
      #expect(fastV[0].keepCount == Int(row[3]), "round(\(count) · (1 - \(ratio)))")
    }
  }

  @Test func `FastV scores with the last layer before the drop and keeps positions`() throws {
    let stages = try FastV(k: 2, r: 0.5).stages(layerCount: 32, visualTokenCount: 576)
    #expect(stages == [DropStage(afterLayer: 2, scoringLayer: 1, keepCount: 288, positions: .original)])
  }

  @Test(arguments: [
    (StageSchedule.listed(layers: [8, 16], ratios: [0.5]), DropPolicyError.differentLengths(layers: 2, ratios: 1)),
    (.listed(layers: [16, 8], ratios: [0.5, 0.2]), .layersNotIncreasing(layers: [16, 8])),
    (.listed(layers: [8, 8], ratios: [0.5, 0.2]), .layersNotIncreasing(layers: [8, 8])),
    (.listed(layers: [0], ratios: [0.5]), .layerOutOfRange(layer: 0, layerCount: 32)),
    (.listed(layers: [32], ratios: [0.5]), .layerOutOfRange(layer: 32, layerCount: 32)),
    (.listed(layers: [-1], ratios: [0.5]), .layerOutOfRange(layer: -1, layerCount: 32)),
    (.listed(layers: [8], ratios: [1.5]), .ratioOutOfRange(ratio: 1.5)),
    (.listed(layers: [8], ratios: [-0.1]), .ratioOutOfRange(ratio: -0.1)),
    (.listed(layers: [8, 16], ratios: [0.2, 0.5]), .ratiosIncreasing(ratios: [0.2, 0.5])),
    (.geometric(lambda: 2), .ratioOutOfRange(ratio: 2)),
    (.geometric(stages: 33), .stageCountOutOfRange(stages: 33, layerCount: 32)),
    (.geometric(stages: 0), .stageCountOutOfRange(stages: 0, layerCount: 32)),
  ])
  func `refuses invalid schedules`(schedule: StageSchedule, error: DropPolicyError) {
    for policy in [PyramidDrop(schedule), RandomDrop(schedule), UniformDrop(schedule)] as [any TokenDroppingPolicy] {
      #expect(throws: error) { try policy.stages(layerCount: 32, visualTokenCount: 576) }
    }
    #expect(!error.description.contains("\n"))
  }

  @Test func `refuses NaN ratios`() {
    #expect(throws: DropPolicyError.self) {
      try PyramidDrop(.listed(layers: [8], ratios: [.nan])).stages(layerCount: 32, visualTokenCount: 576)
    }
    #expect(throws: DropPolicyError.self) { try FastV(k: 2, r: .nan).stages(layerCount: 32, visualTokenCount: 576) }
  }

  @Test(arguments: [(0, 0.5), (32, 0.5), (2, 1.5)])
  func `refuses invalid parameters of FastV`(k: Int, r: Double) {
    #expect(throws: DropPolicyError.self) { try FastV(k: k, r: r).stages(layerCount: 32, visualTokenCount: 576) }
  }
}
