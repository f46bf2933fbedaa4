#include "score/line_search.hpp"

#include <algorithm>
#include <cmath>

namespace routellm_fast {
namespace {

constexpr double kSufficientDecrease = 1e-3;
constexpr double kCurvature = 0.9;
constexpr double kIntervalTolerance = 0.1;
constexpr double kExtrapolateLow = 1.1;
constexpr double kExtrapolateHigh = 4.0;
constexpr double kShrink = 0.66;

}  // namespace

LineSearch::LineSearch(double value, double slope, double first_step, double max_step)
    : start_value_(value),
      start_slope_(slope),
      required_slope_(kSufficientDecrease * slope),
      max_step_(max_step),
      step_(first_step),
      high_(first_step + kExtrapolateHigh * first_step),
      width_(max_step),
      previous_width_(2.0 * max_step),
      best_{0.0, value, slope},
      other_{0.0, value, slope} {}

bool LineSearch::is_finished(double value, double slope, double bound) const noexcept {
  if (bracketed_ && (step_ <= low_ || step_ >= high_)) return true;  // rounding prevents progress
  if (bracketed_ && high_ - low_ <= kIntervalTolerance * high_) return true;
  if (step_ == max_step_ && value <= bound && slope <= required_slope_) return true;
  if (step_ == 0.0 && (value > bound || slope >= required_slope_)) return true;
  return value <= bound && std::abs(slope) <= kCurvature * -start_slope_;
}

void LineSearch::update(double value, double slope) {
  const double bound = start_value_ + step_ * required_slope_;
  if (first_stage_ && value <= bound && slope >= 0.0) first_stage_ = false;
  done_ = is_finished(value, slope, bound);
  if (done_) return;

  if (first_stage_ && value <= best_.value && value > bound) {
    // The first stage looks for a decrease of the function less the required decrease.
    const auto lowered = [this](Point p) {
      return Point{p.step, p.value - p.step * required_slope_, p.slope - required_slope_};
    };
    Point best = lowered(best_);
    Point other = lowered(other_);
    interpolate(best, other, lowered({step_, value, slope}));
    const auto raised = [this](Point p) {
      return Point{p.step, p.value + p.step * required_slope_, p.slope + required_slope_};
    };
    best_ = raised(best);
    other_ = raised(other);
  } else {
    interpolate(best_, other_, {step_, value, slope});
  }

  if (bracketed_) {
    if (std::abs(other_.step - best_.step) >= kShrink * previous_width_) {
      step_ = best_.step + 0.5 * (other_.step - best_.step);
    }
    previous_width_ = width_;
    width_ = std::abs(other_.step - best_.step);
    low_ = std::min(best_.step, other_.step);
    high_ = std::max(best_.step, other_.step);
  } else {
    low_ = step_ + kExtrapolateLow * (step_ - best_.step);
    high_ = step_ + kExtrapolateHigh * (step_ - best_.step);
  }
  step_ = std::clamp(step_, 0.0, max_step_);
  if (bracketed_ && (step_ <= low_ || step_ >= high_ || high_ - low_ <= kIntervalTolerance * high_)) {
    step_ = best_.step;
  }
}

void LineSearch::interpolate(Point& best, Point& other, Point trial) {
  const double same_sign = trial.slope * (best.slope / std::abs(best.slope));
  const double theta = 3.0 * (best.value - trial.value) / (trial.step - best.step) + best.slope + trial.slope;
  const double size = std::max({std::abs(theta), std::abs(best.slope), std::abs(trial.slope)});
  const double scaled = (theta / size) * (theta / size) - (best.slope / size) * (trial.slope / size);
  double next = 0.0;

  if (trial.value > best.value) {
    // Higher: a minimum lies between. The cubic step, or midway to the quadratic one.
    double gamma = size * std::sqrt(scaled);
    if (trial.step < best.step) gamma = -gamma;
    const double ratio = ((gamma - best.slope) + theta) / (((gamma - best.slope) + gamma) + trial.slope);
    const double cubic = best.step + ratio * (trial.step - best.step);
    const double quadratic =
        best.step + ((best.slope / ((best.value - trial.value) / (trial.step - best.step) + best.slope)) / 2.0) *
                        (trial.step - best.step);
    next = std::abs(cubic - best.step) < std::abs(quadratic - best.step) ? cubic : cubic + (quadratic - cubic) / 2.0;
    bracketed_ = true;
  } else if (same_sign < 0.0) {
    // Lower, and the slope has turned: a minimum lies between. Whichever of cubic and secant step is farther from here.
    double gamma = size * std::sqrt(scaled);
    if (trial.step > best.step) gamma = -gamma;
    const double ratio = ((gamma - trial.slope) + theta) / (((gamma - trial.slope) + gamma) + best.slope);
    const double cubic = trial.step + ratio * (best.step - trial.step);
    const double secant = trial.step + (trial.slope / (trial.slope - best.slope)) * (best.step - trial.step);
    next = std::abs(cubic - trial.step) > std::abs(secant - trial.step) ? cubic : secant;
    bracketed_ = true;
  } else if (std::abs(trial.slope) < std::abs(best.slope)) {
    // Lower, same direction, flatter: the cubic may have no minimum ahead.
    double gamma = size * std::sqrt(std::max(0.0, scaled));
    if (trial.step > best.step) gamma = -gamma;
    const double ratio = ((gamma - trial.slope) + theta) / ((gamma + (best.slope - trial.slope)) + gamma);
    double cubic = trial.step > best.step ? high_ : low_;
    if (ratio < 0.0 && gamma != 0.0) cubic = trial.step + ratio * (best.step - trial.step);
    const double secant = trial.step + (trial.slope / (trial.slope - best.slope)) * (best.step - trial.step);
    const bool cubic_is_closer = std::abs(cubic - trial.step) < std::abs(secant - trial.step);
    if (bracketed_) {
      next = cubic_is_closer ? cubic : secant;
      const double limit = trial.step + kShrink * (other.step - trial.step);
      next = trial.step > best.step ? std::min(limit, next) : std::max(limit, next);
    } else {
      next = std::clamp(cubic_is_closer ? secant : cubic, low_, high_);
    }
  } else if (bracketed_) {
    // Lower, same direction, not flatter: a minimum lies between here and the other end.
    const double theta_other =
        3.0 * (trial.value - other.value) / (other.step - trial.step) + other.slope + trial.slope;
    const double size_other = std::max({std::abs(theta_other), std::abs(other.slope), std::abs(trial.slope)});
    double gamma = size_other * std::sqrt((theta_other / size_other) * (theta_other / size_other) -
                                          (other.slope / size_other) * (trial.slope / size_other));
    if (trial.step > other.step) gamma = -gamma;
    const double ratio = ((gamma - trial.slope) + theta_other) / (((gamma - trial.slope) + gamma) + other.slope);
    next = trial.step + ratio * (other.step - trial.step);
  } else {
    next = trial.step > best.step ? high_ : low_;
  }

  if (trial.value > best.value) {
    other = trial;
  } else {
    if (same_sign < 0.0) other = best;
    best = trial;
  }
  step_ = next;
}

}  // namespace routellm_fast
