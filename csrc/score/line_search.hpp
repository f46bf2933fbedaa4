#pragma once

#include <cstddef>

namespace routellm_fast {

/// The line search of Moré and Thuente (ACM TOMS 20, 1994) as a loop turned inside out: feed it the value and the slope
/// at step(), until done().
class LineSearch {
 public:
  LineSearch(double value, double slope, double first_step, double max_step);

  [[nodiscard]] double step() const noexcept { return step_; }
  [[nodiscard]] bool done() const noexcept { return done_; }

  /// Value and slope at step().
  void update(double value, double slope);

 private:
  struct Point {
    double step;
    double value;
    double slope;
  };

  [[nodiscard]] bool is_finished(double value, double slope, double bound) const noexcept;
  // Moves the interval of uncertainty and proposes the next step, by cubic and quadratic interpolation.
  void interpolate(Point& best, Point& other, Point trial);

  double start_value_;
  double start_slope_;
  double required_slope_;
  double max_step_;
  double step_;
  double low_ = 0.0;
  double high_;
  double width_;
  double previous_width_;
  Point best_;
  Point other_;
  bool bracketed_ = false;
  bool first_stage_ = true;
  bool done_ = false;
};

}  // namespace routellm_fast
