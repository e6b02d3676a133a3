"""The equations of the synthetic series, and the noise floors that follow from them.

Shapes: N independent series, T steps, V variates, H steps to forecast.
"""

import math

import numpy as np

from data_modules.errors import UserError


def sum_of_sines(
    series: int, steps: int, variates: int, noise: float, generator: np.random.Generator
) -> np.ndarray:
    """Draws independent short series of two sines and noise.

    Each is ``0.5 sin((t - a)(10 + 10 u)) + 0.2 sin((t - b)(20 + 20 v)) + e`` at evenly spaced t
    from 0 to 1, with a, b, u and v uniform in [0, 1] and e uniform in [-noise / 2, noise / 2].
    With 10,000 series of 60 steps it is the data set of the chapter on sequences in Géron,
    "Hands-On Machine Learning with Scikit-Learn, Keras, and TensorFlow" (2nd edition, chapter 15).

    Args:
        series: Number of series (N).
        steps: Points on the grid from 0 to 1 (T).
        variates: Independent channels of each series (V).
        noise: Width of the uniform noise.
        generator: Source of the random numbers.

    Returns:
        Values (N, T, V), float64.
    """
    time = np.linspace(0, 1, steps)[:, None]
    first, second, first_offset, second_offset = generator.random((4, series, 1, variates))
    values = 0.5 * np.sin((time - first_offset) * (10 + 10 * first))
    values += 0.2 * np.sin((time - second_offset) * (20 + 20 * second))
    values += noise * (generator.random((series, steps, variates)) - 0.5)
    return values


def sine(times: np.ndarray, variates: int) -> np.ndarray:
    """Samples the sine; variate k is its (k + 1)-th harmonic, so that no two are alike.

    Args:
        times: Angles in radians (T).
        variates: Number of harmonics (V).

    Returns:
        Values (T, V), float64.
    """
    return np.sin(times[:, None] * np.arange(1, variates + 1))


def check_stationary(coefficients: list[float]) -> float:
    """Checks that an autoregressive process does not run away.

    Args:
        coefficients: Weights of the last value, the one before it, and so on (p).

    Returns:
        The largest modulus among the roots of the characteristic polynomial, below 1.

    Raises:
        UserError: There are no coefficients, or a root lies on or outside the unit circle.
    """
    if not coefficients or not all(math.isfinite(value) for value in coefficients):
        raise UserError(f"coefficients is {coefficients}: write one or more numbers")
    roots = np.roots([1.0, *(-value for value in coefficients)])
    largest = float(np.abs(roots).max(initial=0.0))
    if largest >= 1 - 1e-9:
        raise UserError(
            f"coefficients {coefficients} make a process that is not stationary (its largest "
            f"characteristic root has modulus {largest:.6g}, and must stay below 1): write "
            "smaller coefficients"
        )
    return largest


def autoregressive(
    coefficients: list[float],
    steps: int,
    variates: int,
    noise: float,
    generator: np.random.Generator,
    burn_in: int | None = None,
) -> np.ndarray:
    """Draws an AR(p) process, y[t] = sum over k of coefficients[k] y[t - 1 - k] + e[t].

    Args:
        coefficients: Weights of the last value, the one before it, and so on (p).
        steps: Steps to return (T).
        variates: Independent processes with the same coefficients (V).
        noise: Standard deviation of the Gaussian innovations e.
        generator: Source of the random numbers.
        burn_in: Steps thrown away at the start, where the process still remembers that it began
            at 0; by default as many as bring that memory below one millionth.

    Returns:
        Values (T, V), float64.

    Raises:
        UserError: The process is not stationary.
    """
    largest = check_stationary(coefficients)
    if burn_in is None:
        forget = math.log(1e-6) / math.log(largest) if largest > 0 else 0.0
        burn_in = min(100_000, max(100, math.ceil(forget)))
    order = len(coefficients)
    # Oldest first, as the values lie in memory.
    weights = np.array(coefficients[::-1])
    values = np.zeros((order + burn_in + steps, variates))
    values[order:] = noise * generator.standard_normal((burn_in + steps, variates))
    for t in range(order, len(values)):
        values[t] += weights @ values[t - order : t]
    return values[order + burn_in :]


def autoregressive_floor(coefficients: list[float], noise: float, horizon: int) -> list[float]:
    """Returns the least mean squared error of each forecast step of an AR(p) process.

    The best forecast h steps ahead misses the h innovations to come, so its mean squared error is
    noise² (psi_0² + ... + psi_{h-1}²), where psi_0 = 1 and psi_k = sum over j of coefficients[j]
    psi_{k-1-j} (Box, Jenkins, Reinsel and Ljung, "Time Series Analysis", 5th edition, section 5.2).

    Args:
        coefficients: Weights of the last value, the one before it, and so on (p).
        noise: Standard deviation of the innovations.
        horizon: Steps to forecast (H).

    Returns:
        Mean squared error of each step (H).
    """
    psi = [1.0]
    for k in range(1, horizon):
        psi.append(sum(a * psi[k - 1 - j] for j, a in enumerate(coefficients[:k])))
    return (noise**2 * np.cumsum(np.square(psi))).tolist()


def plant(
    steps: int,
    plant_input: str,
    noise: float,
    measurement_noise: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """Runs a driven nonlinear plant, y[t + 1] = y[t] / (1 + y[t]²) + u[t]³ + e[t].

    The plant of example 3 in Narendra and Parthasarathy, "Identification and control of
    dynamical systems using neural networks", IEEE Transactions on Neural Networks 1(1), 1990.

    Args:
        steps: Steps to return (T).
        plant_input: "uniform" for independent u in [-1, 1], or "two_sines" for the u with which
            the paper tests, sin(2 pi t / 25) + sin(2 pi t / 10).
        noise: Standard deviation of the Gaussian e, which the plant feels.
        measurement_noise: Standard deviation of Gaussian noise on the y that is returned, which
            the plant does not feel.
        generator: Source of the random numbers.

    Returns:
        Values (T, 2), float64: y[t] and u[t].

    Raises:
        UserError: There is no such input.
    """
    if plant_input == "uniform":
        u = generator.uniform(-1, 1, steps)
    elif plant_input == "two_sines":
        angle = 2 * np.pi * np.arange(steps)
        u = np.sin(angle / 25) + np.sin(angle / 10)
    else:
        raise UserError(f"plant_input is {plant_input!r}: write uniform or two_sines")
    push = (u**3 + noise * generator.standard_normal(steps)).tolist()
    y, current = [], 0.0
    for pushed in push:
        y.append(current)
        current = current / (1 + current * current) + pushed
    observed = np.array(y) + measurement_noise * generator.standard_normal(steps)
    return np.stack([observed, u], axis=1)
