"""Counting words and emoticons of a short list of ours.

The list was written by hand, from general knowledge of English and of tweets, and tuned to no data.
Forms of a word are listed beside it, so that it serves for words as for lemmas. Everything is in
lower case; emoticons are in the one spelling that :mod:`data_modules.tweet_text` gives them.

Shapes: N texts, K = 2 classes.
"""

from typing import TYPE_CHECKING, Any

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from lightning_modules.text_baseline import TextBaseline, Words, chunks_of_words

if TYPE_CHECKING:
    from data_modules.tweets import Tweets

POSITIVE = frozenset(
    # Words.
    """
    adorable adore adored amazed amazing amuse amused amusing awesome beautiful beauty best better
    bless blessed blessing bliss brilliant calm celebrate celebrated celebrating charm charming
    cheer cheerful cheers clever comfortable comfy congrats congratulations cool cute cutest
    delicious delight delighted delightful dope easy enjoy enjoyable enjoyed enjoying epic
    excellent excite excited exciting fab fabulous fan fantastic fave favorite favourite fine fresh
    friendly fun funny generous genius gift glad glorious good goodness gorgeous grateful great
    greatest haha happier happiest happily happiness happy healthy helpful hilarious hooray
    hope hopeful hug hugs impress impressed impressive incredible inspire inspired inspiring
    interesting joy joyful kindness laugh laughed laughing legend like liked lmao lol lovable
    love loved lovely lover loves loving luck lucky magic magical magnificent marvellous marvelous
    nice nicely outstanding peace peaceful perfect perfectly pleasant pleased pleasure
    proud recommend recommended refreshing relax relaxed relaxing relief satisfied smart smile
    smiled smiling smooth special splendid stellar stunning success successful sunny sunshine
    superb support sweet sweetest talented tasty thank thankful thanks thrilled top
    treasure triumph welcome well win winner winning wins won wonderful woo woohoo woot worth worthy
    wow yay yum yummy
    """.split()
    # Emoticons, emoji.
    + ":) ;) :d xd :p :3 :* 8) <3 ^_^ *_* \\o/".split()
    + list("😀😁😂😃😄😅😆😉😊😋😍😎😏😗😘😙😚😛😜😝😇😌😸😹😺😻😽🙂🙃🙌🙏🤗🤣🤩🥰🥳")
    + list("♥❤💋💓💕💖💗💘💙💚💛💜💝💞💪👌👍👏🎉🎊✨🌞🌟🏆☺")
)
NEGATIVE = frozenset(
    # Words.
    """
    abandoned ache aches aching afraid alone anger angry annoy annoyed annoying anxious apologise
    apologize appalling argh ashamed awful awkward bad badly bitter blah bleak bore bored boredom
    boring bother bothered broke broken bug burn cancel cancelled cheated cold complain complaint
    confused confusing cough crap crappy crash crashed crashing cried cries cruel cry crying cursed
    damn damned dead depressed depressing desperate despise die died dies dirty disappoint
    disappointed disappointing disappointment disaster disgust disgusted disgusting dislike
    disliked dread dreadful dreary dull dumb embarrassed embarrassing emo empty evil exhausted
    exhausting expensive fail failed failing fails failure fake fault fear flop fml freezing
    frightened frustrated frustrating fuming furious gloomy grief gross grr grumpy guilty gutted
    hate hated hates hating headache heartbreaking heartbroken hell helpless hopeless horrible
    horrid horrific hungover hurt hurting hurts idiot idiotic ill injured irritated irritating
    jealous junk lame late lazy lonely lose loser losing loss lost lousy mad meh mess messed
    messy migraine miserable misery miss missed misses missing mourn nasty nausea nervous nightmare
    noisy numb outrage overpriced pain painful panic pathetic pity pointless poor problem rain
    rainy regret rejected ridiculous rip rotten rubbish rude ruin ruined ruins sad sadder saddest
    sadly sadness scare scared scary screwed sick sickness sigh slow smelly snob sob sore sorrow
    sorry spoiled stink stinks stole stolen stress stressed stressful struggle struggling stuck
    stupid suck sucked sucks sucky suffer suffering tears terrible terrified terror tired tiring
    toothache tragedy tragic trash trouble ugh ugly unable unfair unfortunate unfortunately unhappy
    unlucky unwell upset upsetting useless vile weak weep wicked worried worries worry worse worst
    worthless wrecked wrong wtf yuck yucky
    """.split()
    # Emoticons, emoji.
    + ":( :'( d: :/ :| :s :@ </3 -_- >_< t_t".split()
    + list("😑😒😓😔😕😖😞😟😠😡😢😣😤😥😦😧😨😩😪😫😬😭😮😰😱😲😳😵😷😾😿☹🙁🙄🤒🤕🤢🤦🤬🤮🥺💔👎")
)
_SKIN_TONES = str.maketrans("", "", "🏻🏼🏽🏾🏿")


class Lexicon(TextBaseline):
    """Words and emoticons for, less those against; one number makes a probability of it.

    The log odds of the positive class are those of its share of the training part, plus a slope
    times the score. The slope has the highest likelihood on the training part. The count knows no
    negation and no intensity: that is what such a list can do alone.
    """

    prior: Tensor  # () log odds of the positive class
    slope: Tensor  # ()

    def __init__(self, spec: dict[str, Any]) -> None:
        """Checks the classes.

        Args:
            spec: ``TextSpec.to_dict()`` of the data.

        Raises:
            ValueError: The classes are others than negative and positive.
        """
        super().__init__(spec)
        classes = self.spec.classes
        if (unknown := _unknown(classes)) is not None:
            raise ValueError(unknown)
        self._positive = classes.index("positive")
        self.register_buffer("prior", torch.tensor(0.0))
        self.register_buffer("slope", torch.tensor(0.0))

    @classmethod
    def obstacle(cls, data: "Tweets") -> str | None:
        """Other classes than negative and positive."""
        return _unknown(data.spec.classes)

    @property
    def parameter_count(self) -> int:
        """The prior and the slope."""
        return 2

    def _fit(self, data: "Tweets") -> None:
        train = data.parts["train"]
        scores = torch.cat([lexicon_scores(words) for words in chunks_of_words(train)]).double()
        signs = torch.as_tensor(train.labels == self._positive).double() * 2 - 1
        # Half a text more of each class: one that does not occur is unlikely, not impossible.
        positive = float((signs > 0).sum()) + 0.5
        prior = float(torch.logit(torch.tensor(positive / (len(signs) + 1))))

        def loss(slope: float) -> float:
            return float(torch.nn.functional.softplus(-signs * (prior + slope * scores)).mean())

        # A score that never errs would have no best slope; beyond 10 nothing changes.
        slope = minimize_scalar(loss, bounds=(-10, 10), method="bounded").x
        self.prior.fill_(prior)
        self.slope.fill_(slope)

    def _logits(self, texts: Words) -> Tensor:
        halves = (self.prior + self.slope * lexicon_scores(texts)) / 2
        logits = torch.stack([-halves, halves], dim=1)
        return logits if self._positive == 1 else logits.flip(1)


def lexicon_scores(texts: Words) -> Tensor:
    """Returns the number of positive less that of negative tokens of each text (N,), float32."""
    scores = []
    for text in texts:
        lowered = [token.lower().translate(_SKIN_TONES) for token in text]
        scores.append(sum((token in POSITIVE) - (token in NEGATIVE) for token in lowered))
    return torch.tensor(scores, dtype=torch.float32)


def _unknown(classes: list[str]) -> str | None:
    if sorted(classes) == ["negative", "positive"]:
        return None
    return (
        f"a lexicon knows only the classes negative and positive, not {', '.join(classes)}: leave "
        "this baseline out, or name the classes so"
    )
